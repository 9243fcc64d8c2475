//! Where alerts go: real receivers, and an HTTP server of our own that fails in the ways a script says.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::paths;
use crate::process::{Process, output};

/// How long a receiver may take to listen on a busy machine.
const START: Duration = Duration::from_secs(60);

/// Where receivers from PyPI live.
pub fn dir() -> PathBuf {
    paths::target().join("receivers")
}

fn requirements() -> PathBuf {
    paths::root().join("tests/receivers/requirements.txt")
}

/// Whether what `tests/receivers/requirements.txt` names is there.
pub fn installed() -> bool {
    let record = fs::read_to_string(dir().join("installed")).ok();
    record.is_some() && record == fs::read_to_string(requirements()).ok()
}

/// Installs it.
pub fn install() -> Result<()> {
    if installed() {
        return Ok(());
    }
    let venv = dir().join("venv");
    output(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))
        .context("make a Python environment (package python3-venv)")?;
    let pip = [
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--requirement",
    ];
    output(Command::new(venv.join("bin/pip")).args(pip).arg(requirements()))
        .context("install the receivers")?;
    Ok(fs::write(
        dir().join("installed"),
        fs::read_to_string(requirements())?,
    )?)
}

/// The Python that has them.
pub fn python() -> PathBuf {
    dir().join("venv/bin/python")
}

/// A port of the loopback interface that nobody listens on.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Waits until somebody listens.
pub fn wait_for_port(port: u16) -> Result<()> {
    let end = Instant::now() + START;
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        ensure!(Instant::now() < end, "nobody listens on port {port}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Waits until a test holds.
pub fn eventually(what: &str, mut test: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + START;
    while !test()? {
        ensure!(Instant::now() < end, "{what}: not within {START:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// The body of a GET.
pub fn get(port: u16, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(START))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no end of the head")?;
    ensure!(head.contains(" 200 "), "{head}");
    Ok(body.to_owned())
}

/// A real Alertmanager.
pub struct Alertmanager {
    /// Where it listens.
    pub port: u16,
    _process: Process,
}

impl Alertmanager {
    /// Starts one with its files in `dir`.
    pub fn start(dir: &Path) -> Result<Self> {
        let config = dir.join("alertmanager.yml");
        fs::write(&config, "route: {receiver: none}\nreceivers: [{name: none}]\n")?;
        let port = free_port()?;
        let mut command = Command::new("prometheus-alertmanager");
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", dir.join("am").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--cluster.listen-address=");
        let process = Process::spawn("prometheus-alertmanager", command)?;
        wait_for_port(port)?;
        Ok(Self {
            port,
            _process: process,
        })
    }

    /// Alerts that it holds.
    pub fn alerts(&self) -> Result<Vec<serde_json::Value>> {
        Ok(serde_json::from_str(&get(self.port, "/api/v2/alerts")?)?)
    }
}

/// A real rsyslogd that writes what it understood, one message a line.
pub struct Rsyslog {
    /// Where it listens.
    pub port: u16,
    file: PathBuf,
    _process: Process,
}

impl Rsyslog {
    /// Starts one; `protocol` is `udp`, `tcp`, or `tls` with `ca.pem`, `cert.pem`, `key.pem` in `dir`.
    pub fn start(dir: &Path, protocol: &str) -> Result<Self> {
        let port = free_port()?;
        let at = dir.display();
        let input = match protocol {
            "udp" => format!(
                "module(load=\"imudp\")\ninput(type=\"imudp\" address=\"127.0.0.1\" port=\"{port}\")\n"
            ),
            "tcp" => format!(
                "module(load=\"imtcp\")\ninput(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\")\n"
            ),
            _ => format!(
                "global(DefaultNetstreamDriver=\"ossl\" DefaultNetstreamDriverCAFile=\"{at}/ca.pem\" DefaultNetstreamDriverCertFile=\"{at}/cert.pem\" DefaultNetstreamDriverKeyFile=\"{at}/key.pem\")\n\
                 module(load=\"imtcp\" StreamDriver.Name=\"ossl\" StreamDriver.Mode=\"1\" StreamDriver.AuthMode=\"anon\")\n\
                 input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\")\n"
            ),
        };
        let file = dir.join(format!("{protocol}.log"));
        let config = dir.join(format!("{protocol}.conf"));
        let text = format!(
            "global(workDirectory=\"{at}\" maxMessageSize=\"256k\")\n{input}\
             template(name=\"understood\" type=\"string\" string=\"%syslogfacility-text%|%syslogseverity-text%|%hostname%|%app-name%|%msgid%|%structured-data%|%msg%\\n\")\n\
             action(type=\"omfile\" file=\"{}\" template=\"understood\")\n",
            file.display()
        );
        fs::write(&config, text)?;
        let mut command = Command::new("rsyslogd");
        command
            .arg("-n")
            .arg("-f")
            .arg(&config)
            .arg("-i")
            .arg(dir.join(format!("{protocol}.pid")));
        let process = Process::spawn("rsyslogd", command)?;
        if protocol == "udp" {
            let listening =
                || Ok(fs::read_to_string("/proc/net/udp")?.contains(&format!("0100007F:{port:04X} ")));
            eventually("rsyslogd listens", listening)?;
        } else {
            wait_for_port(port)?;
        }
        Ok(Self {
            port,
            file,
            _process: process,
        })
    }

    /// Messages so far.
    pub fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.file).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

/// What a receiver of ours does with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Takes it.
    Ok,
    /// Answers with a status, and further header fields.
    Status(u16, &'static str),
    /// Takes it, and answers with this body.
    Body(&'static [u8]),
    /// Never answers.
    Stall,
    /// Reads half of it and closes.
    CloseInRequest,
    /// Answers with half an answer.
    CloseInAnswer,
}

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    /// Request line and fields.
    pub head: String,
    /// Body.
    pub body: Vec<u8>,
    /// What was done with it.
    pub answer: Answer,
}

/// An HTTP server that does what a script says, and takes everything once the script is over.
pub struct HttpReceiver {
    /// Where it listens.
    pub port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl HttpReceiver {
    /// On a port of its own choice, or this one.
    pub fn start(port: u16, script: Vec<Answer>) -> Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
        let port = listener.local_addr()?.port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        let script = Arc::new(Mutex::new(script.into_iter()));
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, script) = (seen.clone(), script.clone());
                std::thread::spawn(move || serve(stream, &seen, &script));
            }
        });
        Ok(Self { port, requests })
    }

    /// Requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Bodies of the requests that were taken, as JSON.
    pub fn taken(&self) -> Result<Vec<serde_json::Value>> {
        let taken = self
            .requests()
            .into_iter()
            .filter(|request| request.answer == Answer::Ok);
        taken
            .map(|request| Ok(serde_json::from_slice(&request.body)?))
            .collect()
    }
}

fn serve(stream: TcpStream, seen: &Mutex<Vec<Request>>, script: &Mutex<std::vec::IntoIter<Answer>>) {
    let Ok(mut out) = stream.try_clone() else { return };
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            match reader.read_line(&mut head) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
        let len = head
            .lines()
            .find_map(|line| {
                line.to_ascii_lowercase()
                    .strip_prefix("content-length: ")?
                    .trim()
                    .parse()
                    .ok()
            })
            .unwrap_or(0_usize);
        let probe = head.starts_with("HEAD") || head.starts_with("GET");
        let answer = if probe {
            Answer::Ok
        } else {
            let next = script.lock().unwrap_or_else(PoisonError::into_inner).next();
            next.unwrap_or(Answer::Ok)
        };
        let mut body = vec![
            0;
            if answer == Answer::CloseInRequest {
                len / 2
            } else {
                len
            }
        ];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        if !probe {
            seen.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(Request { head, body, answer });
        }
        let written = match answer {
            Answer::Ok => out.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok"),
            Answer::Body(body) => {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                out.write_all(&[head.as_bytes(), body].concat())
            }
            Answer::Status(status, fields) => {
                out.write_all(format!("HTTP/1.1 {status} X\r\n{fields}Content-Length: 0\r\n\r\n").as_bytes())
            }
            Answer::Stall => {
                std::thread::sleep(Duration::from_secs(120));
                return;
            }
            Answer::CloseInRequest => return,
            Answer::CloseInAnswer => {
                let _ = out.write_all(b"HTTP/1.1 500 X\r\nContent-Length: 100\r\n\r\nhalf");
                return;
            }
        };
        if written.is_err() {
            return;
        }
    }
}

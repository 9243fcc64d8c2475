//! Sends over UDP, TCP or TLS.

use std::{io, time::Duration};

use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use super::{
    config::{Config, Protocol},
    encode,
};
use crate::sink::delivery::{Entry, Pending, Sender, Sent, Trouble};

/// How long after a batch a receiver that is gone shows it.
const SETTLE: Duration = Duration::from_millis(50);

/// A receiver.
pub(super) struct Syslog {
    config: Config,
    host: String,
    wire: Option<Wire>,
}

enum Wire {
    Datagrams(UdpSocket),
    Stream(Box<dyn Stream>),
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

impl Syslog {
    pub(super) fn new(config: Config) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self {
            config,
            host: host.trim().to_owned(),
            wire: None,
        }
    }

    async fn connect(&self) -> io::Result<Wire> {
        let to = (self.config.host.as_str(), self.config.port);
        if self.config.protocol == Protocol::Udp {
            let address = tokio::net::lookup_host(to).await?.next();
            let address = address.ok_or_else(|| io::Error::other("the name has no address"))?;
            let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any).await?;
            socket.connect(address).await?;
            return Ok(Wire::Datagrams(socket));
        }
        let tcp = TcpStream::connect(to).await?;
        tcp.set_nodelay(true)?;
        let Some(tls) = &self.config.tls else {
            return Ok(Wire::Stream(Box::new(tcp)));
        };
        let name = match &tls.server_name {
            Some(name) => name.clone(),
            None => ServerName::try_from(self.config.host.clone()).map_err(io::Error::other)?,
        };
        let connector = tokio_rustls::TlsConnector::from(tls.config.clone());
        Ok(Wire::Stream(Box::new(connector.connect(name, tcp).await?)))
    }

    /// Sends; how many went out before an error, and bytes.
    async fn deliver(&mut self, batch: &[Entry]) -> (usize, u64, io::Result<()>) {
        let mut wire = match self.wire.take() {
            Some(wire) if !is_gone(&wire) => wire,
            _ => match self.connect().await {
                Ok(wire) => wire,
                Err(error) => return (0, 0, Err(error)),
            },
        };
        let (mut sent, mut bytes) = (0_usize, 0_u64);
        let result = match &mut wire {
            Wire::Datagrams(socket) => {
                let mut result = Ok(());
                for entry in batch {
                    let message = encode::message(entry, &self.config, &self.host);
                    if let Err(error) = socket.send(&message).await {
                        result = Err(error);
                        break;
                    }
                    sent = sent.saturating_add(1);
                    bytes = bytes.saturating_add(u64::try_from(message.len()).unwrap_or(u64::MAX));
                }
                result
            }
            Wire::Stream(stream) => {
                let mut frames = Vec::new();
                for entry in batch {
                    let message = encode::message(entry, &self.config, &self.host);
                    frames.extend(format!("{} ", message.len()).into_bytes());
                    frames.extend(message);
                }
                let result = write(stream, &frames).await;
                if result.is_ok() {
                    sent = batch.len();
                    bytes = u64::try_from(frames.len()).unwrap_or(u64::MAX);
                }
                result
            }
        };
        if result.is_ok() {
            self.wire = Some(wire);
        }
        (sent, bytes, result)
    }

    fn trouble(&self, error: &io::Error) -> Trouble {
        Trouble::later(format!("{}:{}: {error}", self.config.host, self.config.port))
    }
}

/// Writes, and looks whether the other side is still there: what was written to one that is gone is lost.
async fn write(stream: &mut Box<dyn Stream>, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await?;
    let mut answer = [0; 64];
    match timeout(SETTLE, stream.read(&mut answer)).await {
        Ok(Ok(0)) => Err(io::Error::other("the receiver closed the connection")),
        Ok(Err(error)) => Err(error),
        // Nothing, or something that nobody asked for.
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}

/// A datagram socket remembers that the last one was refused (ICMP); taking the error off is enough.
fn is_gone(wire: &Wire) -> bool {
    matches!(wire, Wire::Datagrams(socket) if socket.take_error().is_ok_and(|error| error.is_some()))
}

impl Sender for Syslog {
    fn send<'a>(&'a mut self, batch: &'a [Entry]) -> Pending<'a, Sent> {
        Box::pin(async move {
            let (taken, bytes, result) = self.deliver(batch).await;
            Sent {
                taken,
                bytes,
                trouble: result.err().map(|error| self.trouble(&error)),
                rejected: None,
            }
        })
    }

    fn probe(&mut self) -> Pending<'_, Result<String, Trouble>> {
        let connecting = self.connect();
        Box::pin(async {
            connecting.await.map_err(|error| self.trouble(&error))?;
            Ok(match self.config.protocol {
                Protocol::Udp => "the name resolves; UDP does not tell whether anybody listens".to_owned(),
                Protocol::Tcp => "connected".to_owned(),
                Protocol::Tls => "connected, its certificate is trusted".to_owned(),
            })
        })
    }
}

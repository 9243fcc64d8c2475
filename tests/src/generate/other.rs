//! What is on a wire besides MCP: TLS, web pages and APIs, model APIs, binary protocols, DNS.

use std::io::Write;

use super::Script;
use super::http;
use super::random::Random;
use super::text::Text;
use super::truth::Unit;
use super::turn::{Side, Turn};

const MAIN: usize = 0;

/// TLS 1.3: handshake in clear, then records that say nothing.
#[derive(Debug)]
pub struct Tls {
    /// Name of the server.
    pub name: String,
    /// The handshake is over.
    pub begun: bool,
}

impl Script for Tls {
    fn turn(&mut self, turn: &mut Turn, random: &mut Random, text: &Text, last: bool) {
        if last {
            return turn.close(MAIN);
        }
        if !self.begun {
            self.begun = true;
            turn.open(MAIN);
            let hello = turn.message(&[Unit::ClientHello]);
            let client = client_hello(&self.name, random);
            turn.write(MAIN, Side::Client, 200, hello, |out| {
                out.extend_from_slice(&client)
            });
            turn.keep();
            let answer = turn.message(&[Unit::ServerHello]);
            let server = server_hello(random);
            turn.write(MAIN, Side::Server, random.range(500, 20_000), answer, |out| {
                out.extend_from_slice(&server);
                out.extend_from_slice(&[20, 3, 3, 0, 1, 1]);
                let length = random.range(1_800, 4_000) as usize;
                record(out, text.noise(random, length));
            });
            turn.keep();
            let finished = turn.message(&[]);
            turn.write(MAIN, Side::Client, 900, finished, |out| {
                out.extend_from_slice(&[20, 3, 3, 0, 1, 1]);
                record(out, text.noise(random, 53));
            });
            turn.keep();
        }
        let message = turn.message(&[]);
        turn.write(MAIN, Side::Client, random.range(100, 3_000), message, |out| {
            let length = random.log_range(80, 4_000) as usize;
            record(out, text.noise(random, length));
        });
        let room = turn.room.max(300);
        turn.write(
            MAIN,
            Side::Server,
            random.log_range(500, 40_000),
            message,
            |out| {
                let mut left = random.log_range(300, 150_000).min(room) as usize;
                while left > 0 {
                    let size = left.min(16_401);
                    record(out, text.noise(random, size));
                    left -= size;
                }
            },
        );
    }
}

fn record(out: &mut Vec<u8>, ciphertext: &[u8]) {
    out.extend_from_slice(&[23, 3, 3]);
    out.extend_from_slice(&(ciphertext.len() as u16).to_be_bytes());
    out.extend_from_slice(ciphertext);
}

fn random_bytes(out: &mut Vec<u8>, random: &mut Random, count: usize) {
    out.extend((0..count).map(|_| random.bits() as u8));
}

/// A block with its length before it, in `width` bytes.
fn sized(out: &mut Vec<u8>, width: usize, fill: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.resize(at + width, 0);
    fill(out);
    let length = (out.len() - at - width).to_be_bytes();
    out[at..at + width].copy_from_slice(&length[length.len() - width..]);
}

fn extension(out: &mut Vec<u8>, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(&kind.to_be_bytes());
    sized(out, 2, fill);
}

/// RFC 8446, section 4.1.2, in its record.
fn client_hello(name: &str, random: &mut Random) -> Vec<u8> {
    let mut out = vec![22, 3, 1];
    sized(&mut out, 2, |out| {
        out.push(1);
        sized(out, 3, |out| {
            out.extend_from_slice(&[3, 3]);
            random_bytes(out, random, 32);
            sized(out, 1, |out| random_bytes(out, random, 32));
            sized(out, 2, |out| {
                for suite in [
                    0x1301_u16, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8,
                ] {
                    out.extend_from_slice(&suite.to_be_bytes());
                }
            });
            out.extend_from_slice(&[1, 0]);
            sized(out, 2, |out| {
                extension(out, 0, |out| {
                    sized(out, 2, |out| {
                        out.push(0);
                        sized(out, 2, |out| out.extend_from_slice(name.as_bytes()));
                    });
                });
                extension(out, 10, |out| out.extend_from_slice(&[0, 6, 0, 29, 0, 23, 0, 24]));
                extension(out, 11, |out| out.extend_from_slice(&[1, 0]));
                extension(out, 13, |out| {
                    out.extend_from_slice(&[0, 12, 4, 3, 8, 4, 4, 1, 5, 3, 8, 5, 5, 1]);
                });
                extension(out, 16, |out| out.extend_from_slice(b"\0\x0c\x02h2\x08http/1.1"));
                extension(out, 43, |out| out.extend_from_slice(&[4, 3, 4, 3, 3]));
                extension(out, 45, |out| out.extend_from_slice(&[1, 1]));
                extension(out, 51, |out| {
                    sized(out, 2, |out| {
                        out.extend_from_slice(&[0, 29]);
                        sized(out, 2, |out| random_bytes(out, random, 32));
                    });
                });
                extension(out, 21, |out| out.resize(out.len() + 180, 0));
            });
        });
    });
    out
}

/// RFC 8446, section 4.1.3, in its record.
fn server_hello(random: &mut Random) -> Vec<u8> {
    let mut out = vec![22, 3, 3];
    sized(&mut out, 2, |out| {
        out.push(2);
        sized(out, 3, |out| {
            out.extend_from_slice(&[3, 3]);
            random_bytes(out, random, 32);
            sized(out, 1, |out| random_bytes(out, random, 32));
            out.extend_from_slice(&[0x13, 0x01, 0]);
            sized(out, 2, |out| {
                extension(out, 43, |out| out.extend_from_slice(&[3, 4]));
                extension(out, 51, |out| {
                    out.extend_from_slice(&[0, 29]);
                    sized(out, 2, |out| random_bytes(out, random, 32));
                });
            });
        });
    });
    out
}

/// What a web server serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Site {
    /// Files.
    Downloads,
    /// Pages.
    Pages,
    /// A JSON API.
    Api,
    /// JSON-RPC that is not MCP.
    JsonRpc,
    /// A model API that answers with server-sent events.
    Model,
}

/// Plain HTTP.
#[derive(Debug)]
pub struct Web {
    /// What it serves.
    pub site: Site,
    /// Its name.
    pub host: String,
    /// Connected.
    pub begun: bool,
}

const OK: &str = "HTTP/1.1 200 OK\r\nServer: nginx/1.27.2\r\nDate: Mon, 23 Nov 2026 09:00:00 GMT\r\n";

impl Web {
    fn request(&self, turn: &mut Turn, random: &mut Random, verb: &str, path: &str, body: &str) {
        let message = turn.message(&[Unit::HttpRequest]);
        let mut head = format!(
            "{verb} {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: */*\r\n",
            self.host
        );
        let after = random.range(100, 4_000);
        turn.write(MAIN, Side::Client, after, message, |out| {
            if body.is_empty() {
                let _ = write!(out, "{head}\r\n");
            } else {
                head += "Content-Type: application/json\r\n";
                http::with_length(out, &head, body.as_bytes());
            }
        });
    }

    fn respond(&self, turn: &mut Turn, random: &mut Random, media_type: &str, body: &[u8]) {
        let message = turn.message(&[Unit::HttpResponse]);
        let head = format!("{OK}Content-Type: {media_type}\r\n");
        let (after, chunked) = (random.log_range(300, 20_000), random.chance(0.3));
        turn.write(MAIN, Side::Server, after, message, |out| {
            if chunked {
                http::chunked_head(out, &head);
                http::chunks(out, body, 8192);
            } else {
                http::with_length(out, &head, body);
            }
        });
    }
}

impl Script for Web {
    fn turn(&mut self, turn: &mut Turn, random: &mut Random, text: &Text, last: bool) {
        if last {
            return turn.close(MAIN);
        }
        if !self.begun {
            self.begun = true;
            turn.open(MAIN);
        }
        let room = turn.room.max(300);
        let number = random.range(1, 100_000);
        match self.site {
            Site::Downloads => {
                self.request(
                    turn,
                    random,
                    "GET",
                    &format!("/files/archive-{number}.tar.zst"),
                    "",
                );
                let body = text.noise(random, 200_000.min(room) as usize);
                self.respond(turn, random, "application/octet-stream", body);
            }
            Site::Pages => {
                self.request(turn, random, "GET", &format!("/articles/{number}?page=2"), "");
                let mut body = b"<!doctype html><html><body><p>".to_vec();
                let length = random.log_range(500, 60_000).min(room) as usize;
                body.extend_from_slice(text.prose(random, length));
                body.extend_from_slice(b"</p></body></html>");
                self.respond(turn, random, "text/html; charset=utf-8", &body);
            }
            Site::Api => {
                let length = random.log_range(200, 40_000).min(room) as usize;
                let mut body = br#"{"data":["#.to_vec();
                text.rows(random, length, &mut body);
                body.extend_from_slice(br#"],"meta":{"total":1234}}"#);
                if random.chance(0.5) {
                    self.request(turn, random, "GET", &format!("/api/v1/items?cursor={number}"), "");
                } else {
                    let query = format!(r#"{{"query":"status:open","offset":{number}}}"#);
                    self.request(turn, random, "POST", "/api/v1/search", &query);
                }
                self.respond(turn, random, "application/json", &body);
            }
            Site::JsonRpc => {
                let query = format!(
                    r#"{{"jsonrpc":"2.0","method":"eth_getBlockByNumber","params":["0x{number:x}",true],"id":{number}}}"#
                );
                self.request(turn, random, "POST", "/", &query);
                let length = random.log_range(200, 20_000).min(room) as usize;
                let mut body =
                    format!(r#"{{"jsonrpc":"2.0","id":{number},"result":{{"transactions":["#).into_bytes();
                text.rows(random, length, &mut body);
                body.extend_from_slice(b"]}}");
                self.respond(turn, random, "application/json", &body);
            }
            Site::Model => self.completion(turn, random, text),
        }
    }
}

impl Web {
    /// A chat completion, word by word.
    fn completion(&self, turn: &mut Turn, random: &mut Random, text: &Text) {
        let length = random.log_range(200, 8_000).min(turn.room.max(200)) as usize;
        let prompt = String::from_utf8_lossy(text.prose(random, length)).into_owned();
        let query =
            format!(r#"{{"model":"m-1","stream":true,"messages":[{{"role":"user","content":"{prompt}"}}]}}"#);
        self.request(turn, random, "POST", "/v1/chat/completions", &query);
        let message = turn.message(&[Unit::HttpResponse, Unit::SseStream]);
        turn.write(MAIN, Side::Server, random.range(20_000, 90_000), message, |out| {
            http::chunked_head(out, &format!("{OK}Content-Type: text/event-stream\r\n"));
        });
        for _ in 0..random.range(5, 60) {
            let word = String::from_utf8_lossy(text.prose(random, 4)).into_owned();
            turn.messages[message].units.push(Unit::SseEvent);
            turn.write(MAIN, Side::Server, random.range(2_000, 20_000), message, |out| {
                let event = format!(
                    "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"choices\":[{{\"index\":0,\
                     \"delta\":{{\"content\":\"{word}\"}},\"finish_reason\":null}}]}}\n\n"
                );
                http::chunk(out, event.as_bytes());
            });
        }
        turn.messages[message].units.push(Unit::SseEvent);
        turn.write(MAIN, Side::Server, 2_000, message, |out| {
            http::chunk(out, b"data: [DONE]\n\n");
            http::chunk(out, b"");
        });
    }
}

/// A database or a queue: frames with a length.
#[derive(Debug)]
pub struct Binary {
    /// Connected.
    pub begun: bool,
}

impl Script for Binary {
    fn turn(&mut self, turn: &mut Turn, random: &mut Random, text: &Text, last: bool) {
        if last {
            return turn.close(MAIN);
        }
        let message = turn.message(&[]);
        if !self.begun {
            self.begun = true;
            turn.open(MAIN);
            turn.write(MAIN, Side::Client, 100, message, |out| {
                out.extend_from_slice(b"\0\0\0\x29\0\x03\0\0user\0service\0database\0orders\0\0");
            });
            turn.write(MAIN, Side::Server, 400, message, |out| {
                out.extend_from_slice(b"R\0\0\0\x08\0\0\0\0")
            });
        }
        let (ask, answer) = (random.log_range(40, 2_000), random.log_range(60, 120_000));
        turn.write(MAIN, Side::Client, random.range(50, 2_000), message, |out| {
            out.push(b'Q');
            sized(out, 4, |out| {
                out.extend_from_slice(text.noise(random, ask as usize))
            });
        });
        let answer = answer.min(turn.room.max(60)) as usize;
        turn.write(MAIN, Side::Server, random.log_range(100, 8_000), message, |out| {
            out.push(b'D');
            sized(out, 4, |out| out.extend_from_slice(text.noise(random, answer)));
        });
    }
}

/// One question and its answer.
#[derive(Debug)]
pub struct Dns {
    /// The name.
    pub name: String,
    /// What it resolves to.
    pub address: [u8; 4],
    /// Asked already.
    pub done: bool,
}

impl Script for Dns {
    fn turn(&mut self, turn: &mut Turn, random: &mut Random, _: &Text, last: bool) {
        if last || self.done {
            return turn.close(MAIN);
        }
        self.done = true;
        lookup(turn, MAIN, random, &self.name, self.address);
    }
}

/// A lookup of an address over UDP on this connection.
pub fn lookup(turn: &mut Turn, connection: usize, random: &mut Random, name: &str, address: [u8; 4]) {
    let id = random.bits() as u16;
    let message = turn.message(&[Unit::DnsQuery]);
    turn.write(connection, Side::Client, 20, message, |out| {
        question(out, id, 0x0100, 0, name)
    });
    let message = turn.message(&[Unit::DnsResponse]);
    turn.write(
        connection,
        Side::Server,
        random.range(200, 15_000),
        message,
        |out| {
            question(out, id, 0x8180, 1, name);
            // Pointer to the question's name, type A, class IN, TTL 60.
            out.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
            out.extend_from_slice(&address);
        },
    );
}

fn question(out: &mut Vec<u8>, id: u16, flags: u16, answers: u16, name: &str) {
    for word in [id, flags, 1, answers, 0, 0] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    for label in name.split('.') {
        out.push(label.len() as u8);
        out.extend_from_slice(label.as_bytes());
    }
    out.extend_from_slice(&[0, 0, 1, 0, 1]);
}

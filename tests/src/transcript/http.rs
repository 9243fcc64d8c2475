//! HTTP exchanges over HTTP/1.1 or HTTP/2, as the rendering wants.

use std::io::Write as _;

use anyhow::Result;
use flate2::{Compress, Compression, FlushCompress, write::GzEncoder};

use super::args::Field;
use super::http2::{self, Preface};
use super::network::Network;
use super::rendering::Rendering;
use crate::generate::http;
use crate::generate::turn::Side;

/// Bytes of a chunk where bodies are chunked.
const CHUNK: usize = 11;

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

/// The body of a response.
#[derive(Clone, Debug)]
pub(super) enum Body {
    /// All of it.
    Whole(Vec<u8>),
    /// It comes piece by piece, by [`Http::more`], until [`Http::end`].
    Open,
}

/// A response.
#[derive(Clone, Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Body,
}

/// One connection that speaks HTTP.
pub(super) struct Http {
    /// Of the network.
    pub(super) connection: usize,
    rendering: Rendering,
    preface: Preface,
    stream: u32,
    gzip: Option<Stream>,
    /// A response is still coming.
    pub(super) busy: bool,
    /// What is sent by the server now is missing in the capture.
    pub(super) lossy: bool,
}

/// A gzip stream that is flushed after every piece.
struct Stream {
    deflate: Compress,
    sum: crc32fast::Hasher,
    size: u32,
}

impl Http {
    pub(super) fn new(connection: usize, rendering: Rendering) -> Self {
        Self {
            connection,
            rendering,
            preface: Preface::default(),
            stream: 0,
            gzip: None,
            busy: false,
            lossy: false,
        }
    }

    /// Sends a request.
    pub(super) fn request(&mut self, network: &mut Network, request: &Request) -> Result<()> {
        let mut out = Vec::new();
        if self.rendering.http2() {
            self.stream = self.stream.max(1) + if self.stream == 0 { 0 } else { 2 };
            self.preface.client(&mut out);
            http2::request(&mut out, self.stream, request);
            return network.send(self.connection, Side::Client, &out);
        }
        write!(out, "{} {} HTTP/1.1\r\n", request.method, request.target)?;
        fields(&mut out, &request.headers)?;
        let framed = ["content-length", "transfer-encoding"]
            .iter()
            .any(|name| has(&request.headers, name));
        if framed || (request.body.is_empty() && request.method != "POST") {
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(&request.body);
        } else if self.rendering.chunked() {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            http::chunks(&mut out, &request.body, CHUNK);
        } else {
            write!(out, "Content-Length: {}\r\n\r\n", request.body.len())?;
            // Real clients send head and body apart.
            network.send(self.connection, Side::Client, &out)?;
            return network.send(self.connection, Side::Client, &request.body);
        }
        network.send(self.connection, Side::Client, &out)
    }

    /// Answers the latest request.
    pub(super) fn respond(&mut self, network: &mut Network, response: &Response) -> Result<()> {
        let mut headers = response.headers.clone();
        let bodiless = matches!(response.status, 100..=199 | 204 | 304);
        let open = matches!(response.body, Body::Open);
        let mut whole = match &response.body {
            Body::Whole(bytes) => bytes.clone(),
            Body::Open => Vec::new(),
        };
        let compressible = !has(&headers, "content-encoding")
            && !has(&headers, "content-length")
            && (open || !whole.is_empty());
        if self.rendering.gzip() && compressible {
            headers.push(("content-encoding".to_owned(), "gzip".to_owned()));
            if open {
                self.gzip = Some(Stream::new());
            } else {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(&whole)?;
                whole = encoder.finish()?;
            }
        }
        self.busy = open;
        let mut out = Vec::new();
        if self.rendering.http2() {
            self.preface.server(&mut out);
            http2::response(&mut out, self.stream, response.status, &headers, &whole, !open);
            return self.send(network, &out);
        }
        let reason = match response.status {
            101 => "Switching Protocols",
            200 => "OK",
            202 => "Accepted",
            204 => "No Content",
            302 => "Found",
            307 => "Temporary Redirect",
            308 => "Permanent Redirect",
            400 => "Bad Request",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            _ => "Status",
        };
        write!(out, "HTTP/1.1 {} {reason}\r\n", response.status)?;
        fields(&mut out, &headers)?;
        let framed = has(&headers, "content-length") || has(&headers, "transfer-encoding");
        if bodiless || framed {
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(&whole);
        } else if open || (self.rendering.chunked() && !whole.is_empty()) {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            if !open {
                http::chunks(&mut out, &whole, CHUNK);
            }
        } else {
            write!(out, "Content-Length: {}\r\n\r\n", whole.len())?;
            out.extend_from_slice(&whole);
        }
        self.send(network, &out)
    }

    /// More of an open body.
    pub(super) fn more(&mut self, network: &mut Network, bytes: &[u8]) -> Result<()> {
        let bytes = match &mut self.gzip {
            Some(stream) => stream.piece(bytes, FlushCompress::Sync)?,
            None => bytes.to_vec(),
        };
        let mut out = Vec::new();
        if self.rendering.http2() {
            http2::data(&mut out, self.stream, &bytes, false);
        } else {
            let size = if self.rendering.chunked() {
                CHUNK
            } else {
                bytes.len().max(1)
            };
            for piece in bytes.chunks(size) {
                http::chunk(&mut out, piece);
            }
        }
        self.send(network, &out)
    }

    /// The open body ends.
    pub(super) fn end(&mut self, network: &mut Network) -> Result<()> {
        self.busy = false;
        let mut last = Vec::new();
        if let Some(mut stream) = self.gzip.take() {
            last = stream.piece(&[], FlushCompress::Finish)?;
            last.extend_from_slice(&stream.sum.finalize().to_le_bytes());
            last.extend_from_slice(&stream.size.to_le_bytes());
        }
        let mut out = Vec::new();
        if self.rendering.http2() {
            http2::data(&mut out, self.stream, &last, true);
        } else {
            if !last.is_empty() {
                http::chunk(&mut out, &last);
            }
            http::chunk(&mut out, b"");
        }
        self.send(network, &out)
    }

    fn send(&self, network: &mut Network, bytes: &[u8]) -> Result<()> {
        if self.lossy {
            network.lose(self.connection, Side::Server, bytes)
        } else {
            network.send(self.connection, Side::Server, bytes)
        }
    }
}

impl Stream {
    fn new() -> Self {
        Self {
            deflate: Compress::new(Compression::default(), false),
            sum: crc32fast::Hasher::new(),
            size: 0,
        }
    }

    fn piece(&mut self, bytes: &[u8], flush: FlushCompress) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(bytes.len() + 256);
        if self.deflate.total_in() == 0 && self.size == 0 {
            // RFC 1952: deflate, no flags, no time, unknown system.
            out.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
        }
        self.sum.update(bytes);
        self.size = self.size.wrapping_add(bytes.len() as u32);
        self.deflate.compress_vec(bytes, &mut out, flush)?;
        Ok(out)
    }
}

fn fields(out: &mut Vec<u8>, headers: &[(String, String)]) -> Result<()> {
    for (name, value) in headers {
        write!(out, "{name}: {value}\r\n")?;
    }
    Ok(())
}

fn has(headers: &[(String, String)], name: &str) -> bool {
    headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name))
}

/// Puts header fields over what is there: a name that is there already is replaced, in its place.
pub(super) fn overlay(headers: &mut Vec<(String, String)>, over: &[Field]) {
    let mut done: Vec<&str> = Vec::new();
    for (name, value) in over {
        if !done.iter().any(|other| other.eq_ignore_ascii_case(name)) {
            if let (Some(value), Some(at)) = (
                value,
                headers
                    .iter()
                    .position(|(other, _)| other.eq_ignore_ascii_case(name)),
            ) {
                headers[at].1.clone_from(value);
                done.push(name);
                continue;
            }
            headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        }
        if let Some(value) = value {
            headers.push((name.clone(), value.clone()));
        }
        done.push(name);
    }
}

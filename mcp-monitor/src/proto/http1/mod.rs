//! HTTP/1.0 and 1.1 (RFC 9112) as an observer sees it.

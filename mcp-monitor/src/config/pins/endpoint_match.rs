//! Pins as the layers above look endpoints up in.

use std::net::IpAddr;

use super::Pins;
use crate::mcp::{context::EndpointIndex, target::EndpointMatch};

impl EndpointMatch for Pins {
    fn by_target(&self, host: &str, port: u16, path: &str) -> Option<EndpointIndex> {
        self.match_target(host, port, path)
    }

    fn by_host(&self, host: &str) -> Option<EndpointIndex> {
        self.match_host(host)
    }

    fn by_address(&self, address: IpAddr) -> Option<EndpointIndex> {
        self.match_address(address)
    }
}

//! Pins as the layers above look endpoints up in.

use std::net::IpAddr;

use super::Pins;
use crate::mcp::{context::EndpointIndex, target::EndpointMatch};

impl EndpointMatch for Pins {
    fn by_target(&self, host: &str, port: u16, path: &str, client: Option<&str>) -> Option<EndpointIndex> {
        self.match_target_in(host, port, path, client)
    }

    fn by_host(&self, host: &str, client: Option<&str>) -> Option<EndpointIndex> {
        self.match_host_in(host, client)
    }

    fn by_address(&self, address: IpAddr) -> Option<EndpointIndex> {
        self.match_address(address)
    }
}

//! tmp
use bytes::Bytes;
use crate::{proto::http::Headers, types::Anomaly};
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {}
#[derive(Debug)]
pub struct Decoder {}
impl Decoder {
    pub fn for_headers(_: &Headers, _: Limits) -> Result<Self, Anomaly> { Ok(Self {}) }
    pub fn is_identity(&self) -> bool { true }
    pub fn push(&mut self, data: Bytes, out: &mut Vec<Bytes>) -> Result<(), Anomaly> { out.push(data); Ok(()) }
    pub fn finish(self, _: &mut Vec<Bytes>) -> Result<(), Anomaly> { Ok(()) }
}

//! Which name a client resolved to which address: DNS as the flows' own directory.

use std::{net::IpAddr, num::NonZeroUsize, sync::Arc};

use crate::{proto::dns, types::Bounded};

/// Address → name, per client, least recently used first out.
///
/// A flow takes its name when it begins and keeps it for life, so entries need no expiry:
/// what matters is the latest answer this client got for the address.
#[derive(Debug)]
pub struct Names {
    by_client: Bounded<(IpAddr, IpAddr), Arc<str>>,
}

impl Names {
    /// Keeps at most `capacity` client and address pairs.
    pub fn new(capacity: NonZeroUsize) -> Self {
        Self {
            by_client: Bounded::new(capacity.get()),
        }
    }

    /// Takes the addresses of an answer. The name is the one asked for, whatever CNAMEs lie between.
    pub fn learn(&mut self, client: IpAddr, message: &dns::Message) {
        let Some(question) = message.questions.first() else {
            return;
        };
        if !message.response || question.name.is_empty() {
            return;
        }
        let mut name: Option<Arc<str>> = None;
        for record in &message.answers {
            let dns::RecordData::Address(address) = record.data else {
                continue;
            };
            let name = name.get_or_insert_with(|| question.name.as_ref().into());
            self.by_client.insert((client, address), name.clone());
        }
    }

    /// The name `client` resolved to `address` most recently.
    pub fn lookup(&mut self, client: IpAddr, address: IpAddr) -> Option<Arc<str>> {
        self.by_client.get_mut(&(client, address)).cloned()
    }

    /// Pairs forgotten because the table was full.
    pub fn evicted(&self) -> u64 {
        self.by_client.evicted()
    }
}

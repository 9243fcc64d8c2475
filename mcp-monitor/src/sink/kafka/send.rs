//! Writes to a topic.

use std::{
    collections::{BTreeMap, btree_map},
    time::{Duration, Instant},
};

use rskafka::{
    BackoffConfig,
    client::{
        Client, ClientBuilder,
        error::{Error, ProtocolError},
        partition::{Compression, PartitionClient, UnknownTopicHandling},
    },
    record::Record,
};

use super::{config::Config, encode};
use crate::{
    detect::text::shown,
    sink::delivery::{Entry, Pending, Sender, Sent, Trouble, wall},
};

/// Bytes of one answer of a broker, which come from the network.
const MAX_ANSWER: usize = 16 << 20;
/// How long the client tries again by itself: a broker that has just lost a partition is asked for the new one.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the number of partitions is taken for granted.
const FRESH: Duration = Duration::from_secs(300);

/// One topic.
pub(super) struct Kafka {
    config: Config,
    connected: Option<Connected>,
    /// For records without a key, one partition after the other.
    turn: usize,
}

struct Connected {
    client: Client,
    since: Instant,
    partitions: Vec<i32>,
    writers: BTreeMap<i32, PartitionClient>,
}

impl Kafka {
    pub(super) fn new(config: Config) -> Self {
        Self {
            config,
            connected: None,
            turn: 0,
        }
    }

    async fn connected(&mut self) -> Result<&mut Connected, Trouble> {
        let kept = self.connected.take().filter(|kept| kept.since.elapsed() < FRESH);
        let connected = match kept {
            Some(kept) => kept,
            None => connect(&self.config).await?,
        };
        Ok(self.connected.insert(connected))
    }

    async fn write(&mut self, batch: &[Entry]) -> Sent {
        let (key, encoding, topic) = (self.config.key, self.config.encoding, self.config.topic.clone());
        let mut turn = self.turn;
        let connected = match self.connected().await {
            Ok(connected) => connected,
            Err(trouble) => return Sent::whole(0, 0, Err(trouble)),
        };
        let now = wall();
        let mut parts: BTreeMap<i32, (Vec<usize>, Vec<Record>)> = BTreeMap::new();
        for (at, entry) in batch.iter().enumerate() {
            let message = encode::message(entry, key, encoding, now);
            let many = connected.partitions.len();
            let place = match &message.key {
                Some(key) => encode::place(key, many),
                None => {
                    turn = turn.wrapping_add(1);
                    turn.checked_rem(many).unwrap_or(0)
                }
            };
            let partition = connected.partitions.get(place).copied().unwrap_or(0);
            let part = parts.entry(partition).or_default();
            part.0.push(at);
            part.1.push(message);
        }
        let mut taken = batch.len();
        let (mut bytes, mut trouble) = (0_usize, None);
        for (partition, (places, messages)) in parts {
            let size = messages
                .iter()
                .map(Record::approximate_size)
                .fold(0, usize::saturating_add);
            match connected.produce(&topic, partition, messages).await {
                Ok(()) => bytes = bytes.saturating_add(size),
                Err(error) => {
                    // What other partitions took of what comes after is written again: at least once.
                    taken = taken.min(places.first().copied().unwrap_or(0));
                    trouble = Some(error);
                    break;
                }
            }
        }
        self.turn = turn;
        if trouble.is_some() {
            self.connected = None;
        }
        Sent {
            taken,
            bytes: u64::try_from(bytes).unwrap_or(u64::MAX),
            rejected: None,
            trouble,
        }
    }
}

impl Connected {
    async fn produce(&mut self, topic: &str, partition: i32, messages: Vec<Record>) -> Result<(), Trouble> {
        let writer = match self.writers.entry(partition) {
            btree_map::Entry::Occupied(writer) => writer.into_mut(),
            btree_map::Entry::Vacant(place) => {
                let writer = self
                    .client
                    .partition_client(topic, partition, UnknownTopicHandling::Error)
                    .await
                    .map_err(|error| trouble(&error))?;
                place.insert(writer)
            }
        };
        let written = writer.produce(messages, Compression::NoCompression).await;
        written.map(drop).map_err(|error| trouble(&error))
    }
}

async fn connect(config: &Config) -> Result<Connected, Trouble> {
    let mut builder = ClientBuilder::new(config.brokers.clone())
        .client_id("mcp-monitor")
        .max_message_size(MAX_ANSWER)
        .backoff_config(BackoffConfig {
            init_backoff: Duration::from_millis(500),
            max_backoff: Duration::from_secs(2),
            base: 2.0,
            deadline: Some(PATIENCE),
        });
    if let Some(tls) = &config.tls {
        builder = builder.tls_config(tls.clone());
    }
    if let Some(sasl) = &config.sasl {
        builder = builder.sasl_config(sasl.clone());
    }
    let client = builder.build().await.map_err(|error| trouble(&error))?;
    let topics = client.list_topics().await.map_err(|error| trouble(&error))?;
    let topic = topics.into_iter().find(|topic| topic.name == config.topic);
    let Some(topic) = topic.filter(|topic| !topic.partitions.is_empty()) else {
        let what = format!(
            "there is no topic {}, or no right to see it; create it",
            config.topic
        );
        return Err(Trouble::later(what));
    };
    Ok(Connected {
        client,
        since: Instant::now(),
        partitions: topic.partitions.into_iter().collect(),
        writers: BTreeMap::new(),
    })
}

/// The crate's errors say what a broker said; passwords are not among it.
fn trouble(error: &Error) -> Trouble {
    let refused = matches!(
        error,
        Error::ServerError {
            protocol_error: ProtocolError::MessageTooLarge
                | ProtocolError::RecordListTooLarge
                | ProtocolError::InvalidRecord
                | ProtocolError::InvalidTimestamp,
            ..
        }
    );
    Trouble {
        refused,
        ..Trouble::later(shown(&error.to_string()))
    }
}

impl Sender for Kafka {
    fn send<'a>(&'a mut self, batch: &'a [Entry]) -> Pending<'a, Sent> {
        Box::pin(self.write(batch))
    }

    fn probe(&mut self) -> Pending<'_, Result<String, Trouble>> {
        Box::pin(async move {
            let partitions = self.connected().await?.partitions.len();
            Ok(format!("topic {} has {partitions} partitions", self.config.topic))
        })
    }
}

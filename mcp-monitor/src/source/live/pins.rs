//! The pins in the kernel's tables, by generation.

use aya::{
    Ebpf,
    maps::{Array, HashMap as BpfHashMap, LpmTrie, MapData, lpm_trie::Key},
};
use hashbrown::HashMap;
use ipnet::IpNet;
use mcp_monitor_common::{
    name::NameHash,
    pins::{Control, LAYOUT, NameKey, NameValue, PrefixKey},
};

use super::{LiveError, load};
use crate::source::verdict::{PinnedHost, mapped};

const NAME_KEY: usize = size_of::<NameKey>();
const NAME_VALUE: usize = size_of::<NameValue>();
const PREFIX_KEY: usize = size_of::<PrefixKey>();
const CONTROL: usize = size_of::<Control>();

/// Keys that one generation holds in the kernel.
#[derive(Default)]
struct Generation {
    names: Vec<[u8; NAME_KEY]>,
    prefixes: Vec<(u32, [u8; PREFIX_KEY])>,
}

pub(super) struct Pins {
    names: BpfHashMap<MapData, [u8; NAME_KEY], [u8; NAME_VALUE]>,
    prefixes: LpmTrie<MapData, [u8; PREFIX_KEY], u8>,
    control: Array<MapData, [u8; CONTROL]>,
    seed: u64,
    lost: u64,
    generation: u32,
    current: Generation,
    /// Still in the tables, for programs that were running at the swap.
    previous: Generation,
    by_pattern: HashMap<u64, usize>,
}

impl Pins {
    pub(super) fn new(programs: &mut Ebpf, seed: u64, hosts: &[PinnedHost]) -> Result<Self, LiveError> {
        let mut pins = Self {
            names: load::take_hash(programs, "NAMES")?,
            prefixes: LpmTrie::try_from(load::take(programs, "PREFIXES")?)
                .map_err(LiveError::map("PREFIXES"))?,
            control: Array::try_from(load::take(programs, "CONTROL")?).map_err(LiveError::map("CONTROL"))?,
            seed,
            lost: 0,
            generation: 0,
            current: Generation::default(),
            previous: Generation::default(),
            by_pattern: HashMap::new(),
        };
        pins.swap(hosts)?;
        Ok(pins)
    }

    /// Index of the host with this pattern hash in the pins in force.
    pub(super) fn host(&self, pattern: u64) -> Option<usize> {
        self.by_pattern.get(&pattern).copied()
    }

    /// Writes the new pins beside the old, then makes them valid with one store. If anything fails, the
    /// old ones stay in force.
    pub(super) fn swap(&mut self, hosts: &[PinnedHost]) -> Result<(), LiveError> {
        let gone = std::mem::take(&mut self.previous);
        self.remove(&gone);
        let generation = self.generation.wrapping_add(1);
        let mut next = Generation::default();
        if let Err(why) = self.fill(hosts, generation, &mut next) {
            self.remove(&next);
            return Err(why);
        }
        self.previous = std::mem::replace(&mut self.current, next);
        self.generation = generation;
        self.by_pattern = hosts
            .iter()
            .enumerate()
            .map(|(index, host)| (NameHash::of(self.seed, &host.pattern).0, index))
            .collect();
        Ok(())
    }

    fn fill(
        &mut self,
        hosts: &[PinnedHost],
        generation: u32,
        next: &mut Generation,
    ) -> Result<(), LiveError> {
        for (index, host) in hosts.iter().enumerate() {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            for prefix in &host.prefixes {
                let (bits, key) = prefix_key(generation, index, prefix);
                self.prefixes
                    .insert(&Key::new(bits, key), 1, 0)
                    .map_err(LiveError::map("PREFIXES"))?;
                next.prefixes.push((bits, key));
            }
            let key = name_key(generation, NameHash::of(self.seed, &host.pattern));
            let value = NameValue {
                host: index,
                flags: host.flags(),
            };
            self.names
                .insert(key, bytes::<_, NAME_VALUE>(&value), 0)
                .map_err(LiveError::map("NAMES"))?;
            next.names.push(key);
        }
        self.control(generation)
    }

    fn control(&mut self, generation: u32) -> Result<(), LiveError> {
        let control = Control {
            generation,
            layout: LAYOUT,
            seed: self.seed,
            lost: self.lost,
        };
        self.control
            .set(0, bytes::<_, CONTROL>(&control), 0)
            .map_err(LiveError::map("CONTROL"))
    }

    /// Notes for the next process how much was lost, as far as this one has counted it.
    pub(super) fn leave(&mut self, lost: u64) -> Result<(), LiveError> {
        self.lost = lost;
        self.control(self.generation)
    }

    /// Removing what is not there any more is no error.
    fn remove(&mut self, generation: &Generation) {
        for key in &generation.names {
            let _ = self.names.remove(key);
        }
        for (bits, key) in &generation.prefixes {
            let _ = self.prefixes.remove(&Key::new(*bits, *key));
        }
    }
}

fn name_key(generation: u32, pattern: NameHash) -> [u8; NAME_KEY] {
    bytes(&NameKey {
        pattern: pattern.0,
        generation,
        reserved: 0,
    })
}

fn prefix_key(generation: u32, host: u32, prefix: &IpNet) -> (u32, [u8; PREFIX_KEY]) {
    let bits = match prefix {
        IpNet::V4(net) => PrefixKey::v4_bits(net.prefix_len()),
        IpNet::V6(net) => PrefixKey::v6_bits(net.prefix_len()),
    };
    (
        bits,
        bytes(&PrefixKey::new(generation, host, mapped(prefix.network()))),
    )
}

/// A struct as the bytes that the kernel holds.
pub(super) fn bytes<T: zerocopy::IntoBytes + zerocopy::Immutable, const N: usize>(value: &T) -> [u8; N] {
    let mut bytes = [0; N];
    for (to, from) in bytes.iter_mut().zip(value.as_bytes()) {
        *to = *from;
    }
    bytes
}

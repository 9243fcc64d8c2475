//! What the kernel programs count, per CPU.

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// A counter; its number is its place in [`Counts`].
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u32)]
        pub enum Counter { $($(#[doc = $doc])* $name,)* }

        impl Counter {
            /// Every counter, in order of number.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
        }
    };
}

counters! {
    /// Packets of ignored flows.
    Ignored,
    /// Packets whose other end is local and was captured there.
    Duplicate,
    /// Packets of which a record went up, or should have.
    Captured,
    /// Acknowledgements without payload, which are never sent up.
    Acknowledgements,
    /// Packets of watched flows that do not begin a request.
    Watched,
    /// Packets of undecided flows past their budget.
    OverBudget,
    /// Their payload bytes.
    OverBudgetBytes,
    /// Packets that are not TCP or UDP, are fragments, or contradict themselves.
    Undecoded,
    /// Packets without a socket.
    NoSocket,
    /// UDP packets other than DNS.
    OtherUdp,
    /// Records sent up.
    Records,
    /// Records lost because the ring was full.
    RingFull,
    /// Payload bytes lost with them.
    RingFullBytes,
    /// Records with payload of connections given up while the ring was nearly full, to leave room for the rest.
    Shed,
    /// Payload bytes lost with them.
    ShedBytes,
    /// Packets lost because every scratch buffer of the CPU was in use.
    ScratchBusy,
    /// Packets whose payload could not be read from the socket buffer.
    Unreadable,
    /// Payload bytes beyond the chunks that one packet may give up.
    TooLargeBytes,
    /// Sockets without storage, because the kernel had no memory for it.
    NoStorage,
    /// Flows that went back from watched to undecided.
    Resumed,
    /// DNS answers walked.
    DnsWalked,
    /// DNS answers given up after too many steps.
    DnsGivenUp,
    /// ClientHellos walked.
    HellosWalked,
    /// Drift verdicts.
    Drifts,
    /// Connections and UDP sends refused, because they drift and the pins ask for it.
    Refused,
    /// Connections and UDP sends judged.
    Connects,
    /// Packets of flows whose plaintext comes from the process.
    Encrypted,
    /// Calls of TLS libraries that carried plaintext.
    TlsCalls,
    /// TLS objects met.
    TlsObjects,
    /// Plaintext bytes lost: the caller's buffer could not be read, was past the chunks of one call, or no
    /// scratch buffer was free.
    TlsLostBytes,
    /// TLS objects or calls that found no room in their table.
    TlsNoRoom,
}

/// Number of counters.
pub const COUNT: usize = Counter::ALL.len();

/// The counters of one CPU.
pub type Counts = [u64; COUNT];

impl Counter {
    /// Each packet adds to exactly one of these.
    pub const PACKETS: &'static [Self] = &[
        Self::Ignored,
        Self::Duplicate,
        Self::Captured,
        Self::Acknowledgements,
        Self::Watched,
        Self::OverBudget,
        Self::Undecoded,
        Self::NoSocket,
        Self::OtherUdp,
        Self::NoStorage,
        Self::ScratchBusy,
        Self::Encrypted,
    ];
}

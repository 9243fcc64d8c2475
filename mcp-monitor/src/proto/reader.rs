//! A cursor over bytes from the wire; every read says whether it fitted.

/// Reads big-endian integers and byte runs from the front.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.rest.split_at_checked(len)?;
        self.rest = tail;
        Some(head)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u24(&mut self) -> Option<u32> {
        let [a, b, c] = self.array()?;
        Some(u32::from_be_bytes([0, a, b, c]))
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// A run with an 8-bit length before it.
    pub(super) fn run8(&mut self) -> Option<Self> {
        let len = self.u8()?;
        self.take(usize::from(len)).map(Self::new)
    }

    /// A run with a 16-bit length before it.
    pub(super) fn run16(&mut self) -> Option<Self> {
        let len = self.u16()?;
        self.take(usize::from(len)).map(Self::new)
    }

    /// A run with a 24-bit length before it.
    pub(super) fn run24(&mut self) -> Option<Self> {
        let len = usize::try_from(self.u24()?).ok()?;
        self.take(len).map(Self::new)
    }

    /// The rest as 16-bit integers; an odd byte at the end is left out.
    pub(super) fn u16s(mut self) -> Vec<u16> {
        let mut list = Vec::with_capacity(self.rest.len().checked_div(2).unwrap_or(0));
        while let Some(n) = self.u16() {
            list.push(n);
        }
        list
    }
}

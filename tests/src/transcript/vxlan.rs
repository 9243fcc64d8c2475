//! A capture of an overlay network: every frame inside VXLAN (RFC 7348).

/// Ethernet, IPv4, UDP, VXLAN.
const OUTER: usize = 14 + 20 + 8 + 8;
const FILE_HEADER: usize = 24;
const RECORD: usize = 16;

/// Puts every frame of a classic little-endian pcap into VXLAN between two hosts.
pub fn encapsulate(pcap: &[u8]) -> Vec<u8> {
    let mut out = pcap[..FILE_HEADER].to_vec();
    let mut at = FILE_HEADER;
    while at < pcap.len() {
        let size = u32::from_le_bytes([pcap[at + 8], pcap[at + 9], pcap[at + 10], pcap[at + 11]]) as usize;
        let frame = &pcap[at + RECORD..at + RECORD + size];
        let whole = ((size + OUTER) as u32).to_le_bytes();
        out.extend_from_slice(&pcap[at..at + 8]);
        out.extend_from_slice(&whole);
        out.extend_from_slice(&whole);
        out.extend_from_slice(&[2, 0, 0, 0, 1, 1, 2, 0, 0, 0, 1, 2, 8, 0]);
        let length = |header: usize| ((size + header) as u16).to_be_bytes();
        let mut ip = [
            0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 192, 168, 7, 1, 192, 168, 7, 2,
        ];
        ip[2..4].copy_from_slice(&length(36));
        out.extend_from_slice(&ip);
        // UDP without checksum, as RFC 7348 says.
        out.extend_from_slice(&[0xc0, 0x01, 0x12, 0xb5]);
        out.extend_from_slice(&length(16));
        out.extend_from_slice(&[0, 0]);
        // The VNI is there; it is 42.
        out.extend_from_slice(&[8, 0, 0, 0, 0, 0, 42, 0]);
        out.extend_from_slice(frame);
        at += RECORD + size;
    }
    out
}

//! With which Go a program was built: the `.go.buildinfo` section (`debug/buildinfo`).

use super::super::image::Image;

const MAGIC: &[u8] = b"\xff Go buildinf:";
/// Bytes of a version that are read.
const MAX_VERSION: u64 = 64;

/// Such as `1.24.2`; `None` where the program does not say.
pub(super) fn version(image: &Image<'_>) -> Option<Box<str>> {
    let section = image.named(".go.buildinfo")?;
    let head = image.piece(section.offset, section.size.min(128))?;
    if !head.starts_with(MAGIC) {
        return None;
    }
    let flags = *head.get(15)?;
    let text = if flags & 2 != 0 {
        // From 1.18: the text itself, after its length as a varint. No version is longer than 127.
        let length = usize::from(*head.get(32)?);
        head.get(33..length.checked_add(33)?)?.to_vec()
    } else {
        // Before: the address of a string, which is an address and a length.
        let string = word(head.get(16..24)?)?;
        let header = image.memory(string, 16)?;
        let (address, length) = (word(header.get(..8)?)?, word(header.get(8..)?)?);
        image.memory(address, length.min(MAX_VERSION))?
    };
    let text = String::from_utf8(text).ok()?;
    // Experiments that were switched on follow the version.
    let version = text.split(' ').next()?;
    let version = version.strip_prefix("go").unwrap_or(version);
    let is_plain = version.bytes().all(|byte| byte.is_ascii_graphic());
    (is_plain && !version.is_empty()).then(|| version.into())
}

fn word(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

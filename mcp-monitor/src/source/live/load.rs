//! Loads the object and attaches its programs.

use std::{
    collections::hash_map::RandomState,
    fs::{self, File},
    hash::{BuildHasher as _, Hasher as _},
    path::{Path, PathBuf},
};

use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{HashMap as BpfHashMap, Map, MapData},
    programs::{CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSockAddr},
};

use super::{Features, LiveError, LiveOptions, ProgramCost};

/// Packet programs, and where they sit.
const PACKETS: [(&str, CgroupSkbAttachType); 2] = [
    ("mcp_egress", CgroupSkbAttachType::Egress),
    ("mcp_ingress", CgroupSkbAttachType::Ingress),
];
/// Programs on system calls.
const CALLS: [&str; 4] = ["mcp_connect4", "mcp_connect6", "mcp_sendmsg4", "mcp_sendmsg6"];

/// Capabilities, by number.
const NEEDED: [(&str, u32); 3] = [("CAP_NET_ADMIN", 12), ("CAP_PERFMON", 38), ("CAP_BPF", 39)];
const CAP_SYS_ADMIN: u32 = 21;

static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("MCP_MONITOR_EBPF_OBJECT"));

/// Root of the cgroup2 file system.
pub fn cgroup2_root() -> Result<PathBuf, LiveError> {
    let mounts = fs::read_to_string("/proc/mounts").map_err(|_| LiveError::NoCgroup2)?;
    cgroup2_in(&mounts).ok_or(LiveError::NoCgroup2)
}

/// Finds it in `/proc/mounts`.
fn cgroup2_in(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (place, kind) = (fields.nth(1)?, fields.next()?);
        // The kernel writes a space in a path as \040.
        (kind == "cgroup2").then(|| PathBuf::from(place.replace("\\040", " ")))
    })
}

pub(super) fn open_cgroup(given: Option<&Path>) -> Result<File, LiveError> {
    let path = match given {
        Some(path) => path.to_path_buf(),
        None => cgroup2_root()?,
    };
    File::open(&path).map_err(|source| LiveError::Cgroup { path, source })
}

/// Depth below the root and id of a cgroup directory; zeros for the root itself.
pub(super) fn depth_and_id(given: Option<&Path>) -> (u32, u64) {
    use std::os::unix::fs::MetadataExt as _;
    let found = given.and_then(|dir| {
        let root = cgroup2_root().ok()?.canonicalize().ok()?;
        let dir = dir.canonicalize().ok()?;
        let depth = dir.strip_prefix(root).ok()?.components().count();
        Some((u32::try_from(depth).ok()?, fs::metadata(&dir).ok()?.ino()))
    });
    found.filter(|(depth, _)| *depth > 0).unwrap_or((0, 0))
}

/// Capabilities that are needed and not there.
pub fn missing_capabilities() -> Vec<&'static str> {
    let effective = fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| {
            let field = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
            u64::from_str_radix(field.trim(), 16).ok()
        })
        .unwrap_or(0);
    let has = |number: u32| effective & 1_u64.wrapping_shl(number) != 0;
    NEEDED
        .into_iter()
        // Before 5.8, and ever since as a superset, CAP_SYS_ADMIN stands for the two newer ones.
        .filter(|(_, number)| !has(*number) && (*number == 12 || !has(CAP_SYS_ADMIN)))
        .map(|(name, _)| name)
        .collect()
}

pub(super) fn require_privileges() -> Result<(), LiveError> {
    let missing = missing_capabilities();
    if missing.is_empty() {
        return Ok(());
    }
    Err(LiveError::Privileges {
        missing: missing.join(", "),
    })
}

/// A number that nobody can foresee.
pub(super) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Loads maps and programs; nothing runs yet.
///
/// `below`: depth and id of the watched cgroup, for probes, which run in every process.
pub(super) fn load(
    options: &LiveOptions,
    seed: u64,
    features: Features,
    below: (u32, u64),
) -> Result<Ebpf, LiveError> {
    let ring_bytes = options.ring_bytes.clamp(1 << 16, 1 << 30).next_power_of_two();
    let has_plaintext = u8::from(options.plaintext);
    let may_refuse = u8::from(options.enforce);
    let (level, cgroup) = below;
    let has_loop = u8::from(features.bpf_loop);
    let has_netns = u8::from(features.packet_netns);
    let mut programs = EbpfLoader::new()
        .override_global("SEED", &seed, true)
        .override_global("HAS_LOOP", &has_loop, true)
        .override_global("HAS_NETNS", &has_netns, true)
        .override_global("HAS_PLAINTEXT", &has_plaintext, true)
        .override_global("MAY_REFUSE", &may_refuse, true)
        .override_global("CGROUP_LEVEL", &level, true)
        .override_global("CGROUP_ID", &cgroup, true)
        .map_max_entries("EVENTS", ring_bytes)
        .load(OBJECT)
        .map_err(|why| LiveError::Load(Box::new(why)))?;
    for (name, _) in PACKETS {
        packet_program(&mut programs, name)?
            .load()
            .map_err(program(name))?;
    }
    for name in CALLS {
        call_program(&mut programs, name)?.load().map_err(program(name))?;
    }
    Ok(programs)
}

/// Attaches everything; calls before packets, so that a connection's process is known with its SYN.
pub(super) fn attach(programs: &mut Ebpf, cgroup: &File) -> Result<(), LiveError> {
    // A bpf link takes no flags; links always share the hook with others.
    let mode = CgroupAttachMode::Single;
    for name in CALLS {
        call_program(programs, name)?
            .attach(cgroup, mode)
            .map_err(attaching(name))?;
    }
    for (name, place) in PACKETS {
        packet_program(programs, name)?
            .attach(cgroup, place, mode)
            .map_err(attaching(name))?;
    }
    Ok(())
}

fn packet_program<'a>(programs: &'a mut Ebpf, name: &'static str) -> Result<&'a mut CgroupSkb, LiveError> {
    programs
        .program_mut(name)
        .ok_or(LiveError::Object(name))?
        .try_into()
        .map_err(program(name))
}

fn call_program<'a>(programs: &'a mut Ebpf, name: &'static str) -> Result<&'a mut CgroupSockAddr, LiveError> {
    programs
        .program_mut(name)
        .ok_or(LiveError::Object(name))?
        .try_into()
        .map_err(program(name))
}

pub(super) fn program(name: &'static str) -> impl FnOnce(aya::programs::ProgramError) -> LiveError {
    move |source| LiveError::Program {
        name,
        source: Box::new(source),
    }
}

pub(super) fn attaching(name: &'static str) -> impl FnOnce(aya::programs::ProgramError) -> LiveError {
    move |source| LiveError::Attach {
        name,
        source: Box::new(source),
    }
}

/// What passes the programs' diagnostics on; `None` if they were built without any, which is the rule.
pub(super) fn log(programs: &mut Ebpf) -> Option<Box<dyn FnMut() + Send>> {
    let mut logger = aya_log::EbpfLogger::init(programs).ok()?;
    Some(Box::new(move || logger.flush()))
}

pub(super) fn costs(programs: &Ebpf) -> Vec<ProgramCost> {
    programs
        .programs()
        .filter_map(|(name, program)| {
            let info = program.info().ok()?;
            Some(ProgramCost {
                name: name.into(),
                runs: info.run_count(),
                time: info.run_time(),
            })
        })
        .collect()
}

pub(super) fn take(programs: &mut Ebpf, name: &'static str) -> Result<Map, LiveError> {
    programs.take_map(name).ok_or(LiveError::Object(name))
}

pub(super) fn take_hash<K: Pod, V: Pod>(
    programs: &mut Ebpf,
    name: &'static str,
) -> Result<BpfHashMap<MapData, K, V>, LiveError> {
    BpfHashMap::try_from(take(programs, name)?).map_err(LiveError::map(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_cgroup2_among_mounts() {
        let hybrid = "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      none /mnt/with\\040space cgroup2 rw 0 0\n";
        assert_eq!(cgroup2_in(hybrid), Some(PathBuf::from("/mnt/with space")));
        assert_eq!(cgroup2_in("proc /proc proc rw 0 0\n"), None);
    }
}

//! Container ids in cgroup paths.

/// Length of an id as every common runtime makes it: 256 bits in hexadecimal.
const ID: usize = 64;

/// The id of the innermost container in a cgroup path.
///
/// Runtimes end the path with the id, bare under the cgroupfs driver (`/kubepods/burstable/podUID/ID`,
/// `/docker/ID`), between a prefix and `.scope` under systemd (`cri-containerd-ID.scope`,
/// `crio-ID.scope`, `docker-ID.scope`, `libpod-ID.scope`), after a colon where containerd writes the
/// systemd form for cgroupfs (`…:cri-containerd:ID`). Below it there may be cgroups of the container's own.
#[must_use]
pub fn container_id(path: &str) -> Option<&str> {
    path.rsplit('/').find_map(|part| {
        let part = part.strip_suffix(".scope").unwrap_or(part);
        let id = part.rsplit(['-', ':']).next()?;
        let hex = id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (id.len() == ID && hex).then_some(id)
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const A: &str = "0f6dbd6a3a4b9f5d9d9e6a0b7f4e1c2d3b4a5968778695a4b3c2d1e0f1e2d3c4";

    #[rstest]
    #[case::containerd_systemd(
        "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1a_2b.slice/cri-containerd-{}.scope"
    )]
    #[case::containerd_cgroupfs("/kubepods/burstable/pod1a2b/{}")]
    #[case::containerd_colon("/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:{}")]
    #[case::crio("/kubepods.slice/kubepods-pod1.slice/crio-{}.scope")]
    #[case::crio_nested("/kubepods.slice/crio-{}.scope/container")]
    #[case::docker_systemd("/system.slice/docker-{}.scope")]
    #[case::docker_cgroupfs("/docker/{}")]
    #[case::podman("/machine.slice/libpod-{}.scope/container")]
    fn finds(#[case] path: &str) {
        let path = path.replace("{}", A);
        assert_eq!(container_id(&path), Some(A));
    }

    #[test]
    fn the_innermost_counts() {
        let outer = A.replace('0', "1");
        assert_eq!(container_id(&format!("/docker/{outer}/docker/{A}")), Some(A));
    }

    #[rstest]
    #[case("/user.slice/user-1000.slice/session-2.scope")]
    #[case("/kubepods/burstable/pod1a2b")]
    #[case("/docker/0f6d")]
    #[case("/")]
    fn finds_none(#[case] path: &str) {
        assert_eq!(container_id(path), None);
    }
}

//! Pods in cgroup paths.

use crate::types::Qos;

/// Uid and class of the outermost pod in a cgroup path.
///
/// The kubelet names a pod's cgroup `pod` and its uid: under the cgroupfs driver
/// `/kubepods/burstable/podUID/…`, under systemd `/kubepods.slice/kubepods-burstable.slice/
/// kubepods-burstable-podUID.slice/…` with `_` for `-` in the uid, where containerd writes the systemd form
/// for cgroupfs `…-podUID.slice:cri-containerd:ID`. Another slice may stand above (`kubelet-kubepods-…`).
/// The outermost counts, since what is below belongs to the pod, which may name it as it likes.
#[must_use]
pub fn pod_in(path: &str) -> Option<(String, Qos)> {
    let mut class = None;
    for part in path.split('/') {
        let slice = part.split(':').next().unwrap_or(part);
        let name = slice.strip_suffix(".slice").unwrap_or(slice);
        let (before, uid) = match name.rsplit_once("-pod") {
            Some((before, uid)) => (before, Some(uid)),
            None => (name, name.strip_prefix("pod").filter(|_| class.is_some())),
        };
        // `kubepods`, or with words of other slices before or a class after it.
        if let Some(at) = before.split('-').position(|word| word == "kubepods") {
            class = Some(match before.split('-').nth(at.saturating_add(1)) {
                Some("burstable") => Qos::Burstable,
                Some("besteffort") => Qos::BestEffort,
                _ => Qos::Guaranteed,
            });
        } else if class == Some(Qos::Guaranteed) {
            match name {
                "burstable" => class = Some(Qos::Burstable),
                "besteffort" => class = Some(Qos::BestEffort),
                _ => {}
            }
        }
        if let (Some(qos), Some(uid)) = (class, uid.and_then(uid_of)) {
            return Some((uid, qos));
        }
    }
    None
}

/// A UUID, or of a static pod a hash of 32 hex digits.
fn uid_of(text: &str) -> Option<String> {
    let uid = text.replace('_', "-");
    let hex = uid.bytes().filter(|byte| *byte != b'-').count() == 32
        && uid
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-'));
    (hex && matches!(uid.len(), 32 | 36)).then_some(uid)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const UID: &str = "6c5e3b1a-0d2f-4f57-9a3e-1b2c3d4e5f60";
    const ID: &str = "0f6dbd6a3a4b9f5d9d9e6a0b7f4e1c2d3b4a5968778695a4b3c2d1e0f1e2d3c4";

    #[rstest]
    #[case::containerd_systemd(
        "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{UID}.slice/cri-containerd-{ID}.scope",
        Qos::BestEffort
    )]
    #[case::guaranteed_systemd(
        "/kubepods.slice/kubepods-pod{UID}.slice/cri-containerd-{ID}.scope",
        Qos::Guaranteed
    )]
    #[case::crio_systemd(
        "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID}.slice/crio-{ID}.scope/container",
        Qos::Burstable
    )]
    #[case::docker_systemd("/kubepods.slice/kubepods-pod{UID}.slice/docker-{ID}.scope", Qos::Guaranteed)]
    #[case::containerd_cgroupfs("/kubepods/burstable/pod{UID}/{ID}", Qos::Burstable)]
    #[case::guaranteed_cgroupfs("/kubepods/pod{UID}/{ID}", Qos::Guaranteed)]
    #[case::crio_cgroupfs("/kubepods/besteffort/pod{UID}/crio-{ID}", Qos::BestEffort)]
    #[case::containerd_colon(
        "/system.slice/containerd.service/kubepods-burstable-pod{UID}.slice:cri-containerd:{ID}",
        Qos::Burstable
    )]
    #[case::kind(
        "/system.slice/docker-{ID}.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod{UID}.slice/cri-containerd-{ID}.scope",
        Qos::BestEffort
    )]
    #[case::seen_from_another_root(
        "/../../kubepods-besteffort-pod{UID}.slice/cri-containerd-{ID}.scope",
        Qos::BestEffort
    )]
    fn finds(#[case] path: &str, #[case] qos: Qos) {
        let path = path.replace("{ID}", ID);
        let systemd = path.contains(".slice");
        let uid = if systemd {
            UID.replace('-', "_")
        } else {
            UID.to_owned()
        };
        assert_eq!(pod_in(&path.replace("{UID}", &uid)), Some((UID.to_owned(), qos)));
        let hash = UID.replace('-', "");
        assert_eq!(pod_in(&path.replace("{UID}", &hash)), Some((hash, qos)), "static");
    }

    #[test]
    fn a_pod_cannot_name_another_below_itself() {
        let other = UID.replace('6', "7");
        let path = format!("/kubepods/burstable/pod{UID}/{ID}/kubepods/pod{other}");
        assert_eq!(pod_in(&path), Some((UID.to_owned(), Qos::Burstable)));
    }

    #[rstest]
    #[case("/user.slice/user-1000.slice/session-2.scope")]
    #[case("/docker/pod6c5e3b1a-0d2f-4f57-9a3e-1b2c3d4e5f60")]
    #[case("/kubepods/burstable")]
    #[case("/kubepods/podman")]
    #[case("/machine.slice/libpod-6c5e3b1a0d2f4f579a3e1b2c3d4e5f60.scope")]
    #[case("/")]
    fn finds_none(#[case] path: &str) {
        assert_eq!(pod_in(path), None);
    }

    proptest! {
        #[test]
        fn any_path(path in "[/a-z0-9_.:-]{0,200}") {
            if let Some((uid, _)) = pod_in(&path) {
                prop_assert!(matches!(uid.len(), 32 | 36));
            }
        }
    }
}

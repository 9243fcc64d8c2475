//! The stage itself: names resolve and can be moved, and nothing is left behind.
#![cfg(target_os = "linux")]

use mcp_monitor_tests::privileges;
use mcp_monitor_tests::process::output;
use mcp_monitor_tests::scene::{APPROVED, Family, NAME, ROGUE, Scene};

#[test]
fn a_name_moves_and_the_stage_leaves_nothing_behind() {
    if !privileges::ready("a_name_moves_and_the_stage_leaves_nothing_behind") {
        return;
    }
    let scene = Scene::new().expect("a stage");
    let resolved = |database: &str| {
        let mut getent = scene.agent.command_in(scene.cgroup.path(), "getent");
        output(getent.args([database, NAME])).expect("getent")
    };
    assert!(resolved("ahostsv4").contains(APPROVED.v4));
    scene.place(ROGUE, &[Family::V4]);
    assert!(resolved("ahostsv4").contains(ROGUE.v4));
    scene.place(ROGUE, &[Family::V6]);
    assert!(resolved("ahostsv6").contains(ROGUE.v6));
    for host in [APPROVED, ROGUE] {
        for address in [host.v4, host.v6] {
            // Nothing listens there: that the host says so shows that it is reached.
            let probe = format!("exec 3<>/dev/tcp/{address}/9");
            let refused = output(scene.agent.command("bash").args(["-c", &probe])).expect_err("no listener");
            assert!(
                format!("{refused:#}").contains("refused"),
                "{address}: {refused:#}"
            );
        }
    }

    let (namespace, cgroup) = (scene.agent.path(), scene.cgroup.path().to_owned());
    let etc = std::path::Path::new("/etc/netns").join(scene.agent.name());
    assert!(namespace.exists() && cgroup.exists() && etc.exists());
    drop(scene);
    assert!(!namespace.exists() && !cgroup.exists() && !etc.exists());
}

//! What the end-to-end tests, the demo and the live benchmark share: hosts made of network
//! namespaces, a child cgroup, a DNS server whose answers can be moved, real MCP peers, and
//! the built binary as a user runs it.
//!
//! Everything that outlives a process (a namespace, a cgroup, a file under /etc/netns) is
//! registered in [`undo`], so that it goes away on `Drop` and on SIGINT or SIGTERM alike.

pub mod binary;
pub mod generate;
pub mod http;
pub mod paths;
pub mod transcript;

#[cfg(target_os = "linux")]
pub mod bpf;
#[cfg(target_os = "linux")]
pub mod browser;
#[cfg(target_os = "linux")]
pub mod certificate;
#[cfg(target_os = "linux")]
pub mod cgroup;
#[cfg(target_os = "linux")]
pub mod cluster_tools;
#[cfg(target_os = "linux")]
pub mod dns;
#[cfg(target_os = "linux")]
pub mod https;
#[cfg(target_os = "linux")]
pub mod kube_api;
#[cfg(target_os = "linux")]
pub mod monitor;
#[cfg(target_os = "linux")]
pub mod netns;
#[cfg(target_os = "linux")]
pub mod peers;
#[cfg(target_os = "linux")]
pub mod privileges;
#[cfg(target_os = "linux")]
pub mod process;
#[cfg(target_os = "linux")]
pub mod receivers;
pub mod recorded;
#[cfg(target_os = "linux")]
pub mod scene;
#[cfg(target_os = "linux")]
pub mod streams;
#[cfg(target_os = "linux")]
pub mod undo;

//! Says for which machine the programs are built: registers have other names on each.

fn main() -> aya_build::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    aya_build::emit_bpf_target_arch_cfg()
}

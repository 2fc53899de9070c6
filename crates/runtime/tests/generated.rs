//! The generated code is checked in, so that a build needs no protobuf compiler; this test keeps
//! it fresh. With `UPDATE_PROTO=1` in the environment it writes the file instead of comparing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{env, fs, path::Path};

#[test]
fn generated_code_is_fresh() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = tempdir();
    let descriptors =
        protox::compile([home.join("proto/roundelay.proto")], [home.join("proto")]).unwrap();
    tonic_prost_build::configure()
        .bytes(".")
        .build_transport(false)
        .emit_rerun_if_changed(false)
        .out_dir(&out)
        .compile_fds(descriptors)
        .unwrap();
    let fresh = fs::read_to_string(out.join("roundelay.v1.rs")).unwrap();
    fs::remove_dir_all(&out).unwrap();

    let path = home.join("src/generated/roundelay.v1.rs");
    if env::var_os("UPDATE_PROTO").is_some_and(|value| value == "1") {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, fresh).unwrap();
        return;
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == fresh, "{} is stale: run `make proto`", path.display());
}

fn tempdir() -> std::path::PathBuf {
    let path = env::temp_dir().join(format!("roundelay-proto-{}", std::process::id()));
    fs::create_dir_all(&path).unwrap();
    path
}

//! The name by which programs look for the shared library: with the major version, which goes up when the ABI breaks.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let major = env::var("CARGO_PKG_VERSION_MAJOR").unwrap_or_default();
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let argument = |argument: String| println!("cargo:rustc-cdylib-link-arg=-Wl,{argument}");
    match env::var("CARGO_CFG_TARGET_OS").as_deref() {
        Ok("macos") => {
            argument(format!("-install_name,@rpath/libpccl.{major}.dylib"));
            argument(format!("-compatibility_version,{major}"));
            argument(format!("-current_version,{version}"));
        }
        // A DLL has no such name.
        Ok("windows") => {}
        _ => argument(format!("-soname,libpccl.so.{major}")),
    }
}

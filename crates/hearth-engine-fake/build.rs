//! Sets the rpath of `hearth-engine-fake`: llama.cpp's chat layer is beside it.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg-bins=-Wl,--disable-new-dtags,-rpath,$ORIGIN/hearth-lib");
}

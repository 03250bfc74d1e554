//! The committed header is what cbindgen makes of the source.

use std::path::Path;

#[test]
fn the_header_is_up_to_date() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(here.join("cbindgen.toml")).expect("a valid cbindgen.toml");
    // File by file: asking cargo for the crate would need its lock while the tests run.
    let sources = ["vocabulary", "server", "request", "histogram"].map(|name| here.join(format!("src/{name}.rs")));
    let builder = sources.into_iter().fold(cbindgen::Builder::new().with_config(config), cbindgen::Builder::with_src);
    let mut made = Vec::new();
    builder.generate().expect("cbindgen understands the source").write(&mut made);
    let made = String::from_utf8(made).expect("UTF-8");

    let path = here.join("include/perfwatch.h");
    if std::env::var_os("UPDATE").is_some_and(|value| value == "1") {
        std::fs::write(&path, &made).expect("the header can be written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(made == committed, "include/perfwatch.h is stale: run `cargo bless -p perfwatch-c`\n{made}");
}

//! What the machine is: read once, so the portable library is cheap enough.

use perfwatch_model::{Entity, EntityKind};
use sysinfo::System;

/// The machine as an entity, with the semantic-convention attributes that are known here.
pub fn host_entity() -> Entity {
    let name = System::host_name().ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "localhost".to_owned());
    let name = perfwatch_model::printable(name.as_bytes());
    let mut entity = Entity::new(EntityKind::Host, name.clone())
        .with("host.name", name)
        .with("host.arch", architecture())
        .with("os.type", "linux");
    if let Ok(system) = System::long_os_version() {
        entity = entity.with("os.description", perfwatch_model::printable(system.as_bytes()));
    }
    if let Ok(kernel) = System::kernel_version() {
        entity = entity.with("os.build_id", perfwatch_model::printable(kernel.as_bytes()));
    }
    entity
}

/// The architecture as the semantic conventions call it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_a_name_and_an_architecture() {
        let host = host_entity();
        assert!(!host.id.is_empty());
        assert!(host.attributes.iter().any(|attr| attr.key == "host.arch"));
    }
}

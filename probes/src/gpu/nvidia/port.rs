//! What the kernel says of the two ends of a device's `PCIe` link: the device, and the port above it.
//!
//! NVML's "most lanes" has been seen to be the device's alone: boards wire sixteen lanes to two devices, slots have four or eight.

use std::path::Path;

/// Lanes of slots. Ports that a virtual machine makes up say 32, and nothing of the slot that the device is in.
const WIDTHS: [u64; 6] = [1, 2, 4, 8, 12, 16];
/// Of each generation, from the first: gigatransfers a second and lane.
const SPEEDS: [f64; 7] = [2.5, 5.0, 8.0, 16.0, 32.0, 64.0, 128.0];

/// What both ends of a link can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) width: u64,
    pub(crate) generation: Option<u64>,
}

impl Port {
    /// Of the device with NVML's address for it, in the kernel's folder of devices. None where nothing is told of the port above it:
    /// in many virtual machines there is none.
    pub(crate) fn above(devices: &Path, bus_id: &str) -> Option<Self> {
        let device = devices.join(address(bus_id)?);
        // The folder is a link, of which the kernel takes the real parent.
        let port = device.join("..");
        let least = |of_port: u64, of_device: Option<u64>| of_device.map_or(of_port, |device| device.min(of_port));
        let generation = generation(&port).map(|of_port| least(of_port, generation(&device)));
        Some(Self { width: least(width(&port)?, width(&device)), generation })
    }
}

/// `0000:1b:00.0` of NVML's `00000000:1B:00.0`.
fn address(bus_id: &str) -> Option<String> {
    let (domain, rest) = bus_id.split_once(':')?;
    let domain = u32::from_str_radix(domain, 16).ok()?;
    Some(format!("{domain:04x}:{}", rest.to_ascii_lowercase()))
}

fn width(end: &Path) -> Option<u64> {
    let lanes = std::fs::read_to_string(end.join("max_link_width")).ok()?.trim().parse().ok()?;
    WIDTHS.contains(&lanes).then_some(lanes)
}

/// Of `16.0 GT/s PCIe`, and `8 GT/s` before Linux 5.7.
fn generation(end: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(end.join("max_link_speed")).ok()?;
    let speed: f64 = text.split_whitespace().next()?.parse().ok()?;
    let at = SPEEDS.iter().position(|known| known.total_cmp(&speed).is_eq())?;
    Some(at as u64 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told of a device below a port, of which each says this of width and speed.
    fn told(port: Option<(&str, &str)>, device: Option<(&str, &str)>) -> Option<(u64, Option<u64>)> {
        let root = tempfile::tempdir().expect("a folder");
        let real = root.path().join("pci0000:00/0000:00:01.0/0000:1b:00.0");
        let devices = root.path().join("devices");
        std::fs::create_dir_all(&real).and_then(|()| std::fs::create_dir(&devices)).expect("created");
        std::os::unix::fs::symlink(&real, devices.join("0000:1b:00.0")).expect("linked");
        for (end, said) in [(real.parent().expect("a port"), port), (&real, device)] {
            let Some((width, speed)) = said else { continue };
            std::fs::write(end.join("max_link_width"), width).expect("written");
            std::fs::write(end.join("max_link_speed"), speed).expect("written");
        }
        Port::above(&devices, "00000000:1B:00.0").map(|port| (port.width, port.generation))
    }

    #[test]
    fn a_link_can_do_what_both_of_its_ends_can() {
        let x16 = Some(("16\n", "32.0 GT/s PCIe\n"));
        assert_eq!(told(Some(("8\n", "16.0 GT/s PCIe\n")), x16), Some((8, Some(4))));
        assert_eq!(told(x16, Some(("4\n", "8 GT/s\n"))), Some((4, Some(3))));
        assert_eq!(told(x16, Some(("255\n", "Unknown\n"))), Some((16, Some(5))), "the device does not say");
    }

    #[test]
    fn without_a_port_that_says_what_it_can_do_nothing_is_known_of_the_slot() {
        let device = Some(("16\n", "16.0 GT/s PCIe\n"));
        assert_eq!(told(None, device), None);
        assert_eq!(told(Some(("32\n", "16.0 GT/s PCIe\n")), device), None, "a port that a virtual machine made up");
        assert_eq!(told(Some(("255\n", "Unknown\n")), device), None);
    }

    #[test]
    fn addresses_are_the_kernels() {
        let told = ["00000000:1B:00.0", "00010001:00:1E.0", "none"].map(address);
        assert_eq!(told, [Some("0000:1b:00.0".into()), Some("10001:00:1e.0".into()), None]);
    }
}

//! Recordings of GPUs, for machines without one. To add one: a file in `replays/`, and an entry here.

use crate::error::DemoError;

/// A recording that the program carries.
#[derive(Debug)]
pub struct Recorded {
    /// Stable lowercase name, as on the command line and of the file.
    pub name: &'static str,
    /// One sentence: what it shows.
    pub brief: &'static str,
    /// What it is, and what in it is real.
    pub origin: &'static str,
    /// What `perfwatch record` wrote, packed.
    packed: &'static [u8],
}

impl Recorded {
    /// What `perfwatch record` wrote.
    pub fn unpack(&self) -> std::io::Result<Vec<u8>> {
        zstd::decode_all(self.packed)
    }
}

/// One of those that `tests/replays` makes.
const fn scripted(name: &'static str, brief: &'static str, packed: &'static [u8]) -> Recorded {
    let origin = "a scripted recording: the driver's answers of an H100 are made up, everything above them is real; no GPU was \
         there";
    Recorded { name, brief, origin, packed }
}

/// Every recording, in the order in which they are listed to people.
pub const REPLAYS: &[Recorded] = &[
    scripted(
        "h100-decode",
        "A language model generates: the bandwidth of the memory is used up, the tensor cores are not.",
        include_bytes!("../replays/h100-decode.pwrec.zst"),
    ),
    scripted(
        "h100-prefill",
        "A language model reads long prompts: the tensor cores are used up.",
        include_bytes!("../replays/h100-prefill.pwrec.zst"),
    ),
    scripted(
        "h100-throttled",
        "The same in a hot machine: the GPU lowers its clocks, and requests take longer.",
        include_bytes!("../replays/h100-throttled.pwrec.zst"),
    ),
    scripted(
        "h100-starved",
        "One tokeniser for all requests: the GPU waits for it most of the time.",
        include_bytes!("../replays/h100-starved.pwrec.zst"),
    ),
    scripted(
        "h100-shared",
        "Another process on the same GPU takes more than a quarter of it.",
        include_bytes!("../replays/h100-shared.pwrec.zst"),
    ),
];

/// The recording with this name.
pub fn find(name: &str) -> Result<&'static Recorded, DemoError> {
    REPLAYS.iter().find(|one| one.name == name).ok_or_else(|| {
        let names: Vec<&str> = REPLAYS.iter().map(|one| one.name).collect();
        DemoError::Usage(format!("unknown recording `{name}`; there are {}", names.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_file_is_a_listed_recording_with_a_name_of_its_own() {
        let files: BTreeSet<String> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/replays"))
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        let listed: BTreeSet<String> = REPLAYS.iter().map(|one| format!("{}.pwrec.zst", one.name)).collect();
        assert_eq!(files, listed);
        assert_eq!(listed.len(), REPLAYS.len());
        assert!(REPLAYS.iter().all(|one| one.brief.ends_with('.')));
    }

    #[test]
    fn each_is_the_file_of_its_name_and_small_enough_to_be_carried() {
        for one in REPLAYS {
            let file = format!("{}/replays/{}.pwrec.zst", env!("CARGO_MANIFEST_DIR"), one.name);
            assert_eq!(one.packed, std::fs::read(file).unwrap(), "{}", one.name);
            assert!(one.packed.len() < 250_000, "{}: {} bytes", one.name, one.packed.len());
            assert!(one.unpack().unwrap().starts_with(b"SQLite format 3\0"), "{}", one.name);
        }
    }

    #[test]
    fn an_unknown_recording_lists_the_known_ones() {
        assert_eq!(find("h100-decode").unwrap().name, "h100-decode");
        let error = find("h200-decode").unwrap_err();
        assert!(error.to_string().contains("h100-decode, h100-prefill"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }
}

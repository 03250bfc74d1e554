//! The looks and the words of ledger entries.
//!
//! Solid glyphs are work done, letters are the stage that the time waited for (the same letter in both ledgers), `·` is
//! lack of demand and `?` is what nobody measured. Colour repeats what the glyph says: green the model's own work, blue
//! other work, yellow waiting, red what was taken from outside.

use perfwatch_model::snapshot::{CauseEntry, DeviceView, LedgerView, ServerView, StageEntry};
use perfwatch_model::{Quality, Snapshot, Stage};

use crate::theme::Role;

/// How sure a number is, as far as its looks go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Certainty {
    Measured,
    Inferred,
    Modelled,
}

/// One entry of a ledger, ready to draw.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Part {
    pub(crate) glyph: char,
    pub(crate) ascii: char,
    /// True when the glyph is a letter, which is drawn on a filled cell.
    pub(crate) letter: bool,
    pub(crate) words: String,
    pub(crate) role: Role,
    pub(crate) ns: u64,
    pub(crate) certainty: Certainty,
}

/// Causes that are not "starved by a stage": label, glyph, ASCII, words, role.
const CAUSES: &[(&str, char, char, &str, Role)] = &[
    ("used", '█', '#', "used", Role::Ok),
    ("compute", '█', '#', "compute", Role::Ok),
    ("memory_bandwidth", '▓', '%', "memory bandwidth", Role::Ok),
    ("sm_stalled", '▚', '=', "SMs stalled", Role::Warn),
    ("sm_idle_resident", '▞', '-', "kernel resident, SMs idle", Role::Warn),
    ("throttled", '▼', 'V', "clocks held down", Role::Crit),
    ("other_tenant", '◆', '@', "other tenants", Role::Crit),
    ("host_compute", 'h', 'h', "host work inside compute", Role::Accent),
    ("quota", 'Q', 'Q', "stopped by CPU limit", Role::Crit),
    ("run_queue_wait", 'W', 'W', "CPU taken by others", Role::Crit),
    ("steal", 'Z', 'Z', "CPU taken by hypervisor", Role::Crit),
    ("unused_parallelism", '░', '-', "cores idle in compute", Role::Dim),
    ("no_demand", '·', '.', "no demand", Role::Dim),
    ("unknown", '?', '?', "unknown", Role::Dim),
    ("busy_unknown", '?', '?', "busy, with what is unknown", Role::Dim),
    ("idle_unknown", '?', '?', "idle, why is unknown", Role::Dim),
];

/// Built-in stages: label, letter, words, role.
const STAGES: &[(Stage, char, &str, Role)] = &[
    (Stage::Queue, 'q', "queue", Role::Warn),
    (Stage::Preprocess, 'p', "preprocess", Role::Accent),
    (Stage::DataLoad, 'l', "data load", Role::Accent),
    (Stage::BatchWait, 'b', "batch wait", Role::Warn),
    (Stage::Transfer, 't', "transfer", Role::Accent),
    (Stage::Compute, 'c', "compute", Role::Ok),
    (Stage::Prefill, 'P', "prefill", Role::Ok),
    (Stage::Decode, 'D', "decode", Role::Ok),
    (Stage::Postprocess, 'o', "postprocess", Role::Accent),
    (Stage::Send, 's', "send", Role::Accent),
    (Stage::Other, '~', "other", Role::Dim),
];

/// The devices whose time is this server's, with their labels: its CPUs when it has a device of its own, else every GPU
/// of the machine.
pub(crate) fn devices_of<'a>(snapshot: &'a Snapshot, server: &ServerView) -> Vec<(String, &'a DeviceView)> {
    let of_server = |device: &&DeviceView| {
        let owner = device.id.strip_prefix("cpu:").unwrap_or("");
        owner == server.id || server.id.strip_prefix("server:") == Some(owner)
    };
    let own: Vec<_> = snapshot.devices.iter().filter(of_server).collect();
    if !own.is_empty() {
        return own.into_iter().map(|device| (device.kind.to_uppercase(), device)).collect();
    }
    let gpus: Vec<_> = snapshot.devices.iter().filter(|device| device.kind == "gpu").collect();
    if let [only] = gpus[..] {
        return vec![("GPU".to_owned(), only)];
    }
    gpus.into_iter().enumerate().map(|(index, device)| (format!("GPU {index}"), device)).collect()
}

/// The entries of a device ledger.
pub(crate) fn device_parts(ledger: &LedgerView<CauseEntry>) -> Vec<Part> {
    let mut parts: Vec<Part> =
        ledger.entries.iter().map(|entry| device_part(&entry.cause, entry.ns, entry.quality)).collect();
    name_the_nameless(&mut parts);
    parts
}

/// The entries of a request ledger.
pub(crate) fn request_parts(ledger: &LedgerView<StageEntry>) -> Vec<Part> {
    let mut parts: Vec<Part> =
        ledger.entries.iter().map(|entry| stage_part(&entry.stage, entry.ns, entry.quality)).collect();
    name_the_nameless(&mut parts);
    parts
}

/// The words for a stage; a server's own keep their name.
pub(crate) fn stage_words(label: &str) -> String {
    stage_part(label, 0, Quality::Sdk).words
}

/// One entry of a device ledger.
pub(crate) fn device_part(cause: &str, ns: u64, quality: Quality) -> Part {
    if let Some((_, glyph, ascii, words, role)) = CAUSES.iter().find(|(label, ..)| *label == cause) {
        let letter = glyph.is_ascii_alphabetic();
        return part(*glyph, *ascii, letter, (*words).to_owned(), *role, ns, quality);
    }
    let (prefix, stage) = cause.split_once('.').unwrap_or(("", cause));
    let of_stage = stage_part(stage, ns, quality);
    match prefix {
        // Whatever the stage, the device stands still: that is waiting.
        "starved" => Part { words: format!("starved by {}", of_stage.words), role: Role::Warn, ..of_stage },
        "used" => Part { words: format!("used in {}", of_stage.words), role: Role::Ok, ..of_stage },
        _ => Part { words: cause.replace('_', " "), ..of_stage },
    }
}

fn stage_part(label: &str, ns: u64, quality: Quality) -> Part {
    if label == "unknown" {
        return part('?', '?', false, "unknown".to_owned(), Role::Dim, ns, quality);
    }
    let known = Stage::from_name(label).and_then(|stage| STAGES.iter().find(|(known, ..)| *known == stage));
    match known {
        Some((_, letter, words, role)) => {
            let is_letter = letter.is_ascii_alphabetic();
            part(*letter, *letter, is_letter, (*words).to_owned(), *role, ns, quality)
        }
        None => part(NAMELESS, NAMELESS, true, label.replace('_', " "), Role::Accent, ns, quality),
    }
}

fn part(glyph: char, ascii: char, letter: bool, words: String, role: Role, ns: u64, quality: Quality) -> Part {
    let certainty = match quality {
        Quality::Counter | Quality::Sdk | Quality::Scraped | Quality::Unknown => Certainty::Measured,
        Quality::Inferred => Certainty::Inferred,
        Quality::Modelled => Certainty::Modelled,
    };
    if quality == Quality::Unknown {
        return Part { glyph: '?', ascii: '?', letter: false, words, role: Role::Dim, ns, certainty };
    }
    Part { glyph, ascii, letter, words, role, ns, certainty }
}

/// Stands for "no letter yet" until every entry of the ledger is known.
const NAMELESS: char = '\0';

/// Gives each of a server's own stages a letter that nothing else in this ledger has: from its name if possible, and not
/// one of a built-in stage, which would mislead.
fn name_the_nameless(parts: &mut [Part]) {
    for at in 0..parts.len() {
        if parts[at].glyph != NAMELESS {
            continue;
        }
        let taken = |c: char| {
            STAGES.iter().any(|(_, letter, ..)| *letter == c)
                || CAUSES.iter().any(|(_, glyph, ..)| *glyph == c)
                || parts.iter().any(|part| part.glyph == c)
        };
        let mut wanted = parts[at].words.chars().filter(char::is_ascii_alphabetic).collect::<String>();
        wanted.push_str(&wanted.to_ascii_uppercase());
        wanted.push_str("123456789abcdefghijklmnopqrstuvwxyz");
        let letter = wanted.chars().find(|c| !taken(*c)).unwrap_or('+');
        parts[at].glyph = letter;
        parts[at].ascii = letter;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_stage_has_a_letter_of_its_own() {
        for stage in Stage::all().filter(|stage| !stage.is_custom()) {
            let same = STAGES.iter().filter(|(known, ..)| *known == stage).count();
            assert_eq!(same, 1, "{stage} must be listed once");
        }
        let mut letters: Vec<char> = STAGES.iter().map(|(_, letter, ..)| *letter).collect();
        letters.sort_unstable();
        assert!(letters.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn starved_carries_the_letter_of_its_stage() {
        let part = device_part("starved.batch_wait", 1, Quality::Sdk);
        assert_eq!((part.glyph, part.words.as_str(), part.role), ('b', "starved by batch wait", Role::Warn));
    }

    #[test]
    fn stages_of_a_servers_own_get_letters_that_nobody_has() {
        let entry = |stage: &str| StageEntry { stage: stage.to_owned(), ns: 1, quality: Quality::Sdk };
        let ledger = LedgerView { interval_ns: 4, entries: ["queue", "qos", "rerank", "retrieve"].map(entry).into() };
        let letters: Vec<char> = request_parts(&ledger).iter().map(|part| part.glyph).collect();
        assert_eq!(letters, ['q', 'O', 'r', 'e']);
    }

    #[test]
    fn unknown_quality_is_a_question_mark_whatever_the_label() {
        assert_eq!(device_part("compute", 1, Quality::Unknown).glyph, '?');
        assert_eq!(device_part("busy_unknown", 1, Quality::Unknown).glyph, '?');
    }

    #[test]
    fn an_unheard_of_cause_of_a_newer_agent_is_drawn_under_its_name() {
        let entry = CauseEntry { cause: "nvlink_wait".to_owned(), ns: 1, quality: Quality::Counter };
        let parts = device_parts(&LedgerView { interval_ns: 1, entries: vec![entry] });
        assert_eq!((parts[0].glyph, parts[0].words.as_str()), ('n', "nvlink wait"));
    }
}

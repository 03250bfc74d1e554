//! The looks and the words of ledger entries.
//!
//! Solid glyphs are work done, letters are the stage that the time waited for (the same letter in both ledgers), `·` is
//! lack of demand, `╌` idleness of unknown cause and `?` is what nobody measured. Colour repeats what the glyph says: green the model's own work, blue
//! other work, yellow waiting, red what was taken from outside.

use perfwatch_model::snapshot::{CauseEntry, DeviceView, LedgerView, ServerView, StageEntry};
use perfwatch_model::{Quality, Snapshot, Stage};

use crate::gpus::gpus;
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
    /// The words where there is little room.
    pub(crate) short: String,
    /// Place in the bar: work, time taken away, waiting by stage, idleness, the unknown.
    order: usize,
    pub(crate) role: Role,
    pub(crate) ns: u64,
    /// The least and the most that it could be, where that is worth a word.
    pub(crate) bounds: Option<(u64, u64)>,
    pub(crate) certainty: Certainty,
}

/// Bounds that are no further apart than this share of the interval say nothing that the number does not say.
const CLOSE: f64 = 0.01;

/// Causes that are not "starved by a stage", in the order in which a bar shows them: label, glyph, ASCII, words, the same
/// for narrow screens, role. Waiting for a stage comes before the first idle one.
#[rustfmt::skip]
const CAUSES: &[(&str, char, char, &str, &str, Role)] = &[
    ("used", '█', '#', "used", "used", Role::Ok),
    ("compute", '█', '#', "compute", "compute", Role::Ok),
    ("memory_bandwidth", '▓', '%', "memory bandwidth", "DRAM", Role::Ok),
    ("busy_unknown", '▒', '*', "busy, with what is unknown", "busy", Role::Ok),
    ("sm_stalled", '▚', '=', "SMs stalled", "stalled", Role::Warn),
    ("sm_idle_resident", '▞', '-', "kernel resident, SMs idle", "SMs idle", Role::Warn),
    ("throttled", '▼', 'V', "clocks held down", "clocks", Role::Crit),
    ("other_tenant", '◆', '@', "other tenants", "tenants", Role::Crit),
    ("host_compute", 'h', 'h', "host work inside compute", "host", Role::Accent),
    ("quota", 'Q', 'Q', "stopped by CPU limit", "CPU limit", Role::Crit),
    ("run_queue_wait", 'W', 'W', "CPU taken by others", "others", Role::Crit),
    ("steal", 'Z', 'Z', "CPU taken by hypervisor", "hypervisor", Role::Crit),
    ("unused_parallelism", '░', '-', "cores idle in compute", "idle cores", Role::Dim),
    ("no_demand", '·', '.', "no demand", "no demand", Role::Dim),
    ("idle_unknown", '╌', '_', "idle, why is unknown", "idle", Role::Dim),
    ("unknown", '?', '?', "unknown", "unknown", Role::Dim),
];

/// Built-in stages: label, letter, words, the same for narrow screens, role.
const STAGES: &[(Stage, char, &str, &str, Role)] = &[
    (Stage::Queue, 'q', "queue", "queue", Role::Warn),
    (Stage::Preprocess, 'p', "preprocess", "pre", Role::Accent),
    (Stage::DataLoad, 'l', "data load", "data", Role::Accent),
    (Stage::BatchWait, 'b', "batch wait", "batch", Role::Warn),
    (Stage::Transfer, 't', "transfer", "copy", Role::Accent),
    (Stage::Compute, 'c', "compute", "compute", Role::Ok),
    (Stage::Prefill, 'P', "prefill", "prefill", Role::Ok),
    (Stage::Decode, 'D', "decode", "decode", Role::Ok),
    (Stage::Postprocess, 'o', "postprocess", "post", Role::Accent),
    (Stage::Send, 's', "send", "send", Role::Accent),
    (Stage::Other, '~', "other", "other", Role::Dim),
];

/// The devices whose time is this server's, with their labels: the GPUs that it uses, as far as it is known where their time
/// goes, and its CPUs; where it has no device of its own, every GPU of the machine.
pub(crate) fn devices_of<'a>(snapshot: &'a Snapshot, server: &ServerView) -> Vec<(String, &'a DeviceView)> {
    let of_server = |device: &&DeviceView| {
        let owner = device.id.strip_prefix("cpu:").unwrap_or("");
        owner == server.id || server.id.strip_prefix("server:") == Some(owner)
    };
    let gpus = labelled_gpus(snapshot);
    let own: Vec<_> = snapshot.devices.iter().filter(of_server).collect();
    if own.is_empty() {
        return gpus;
    }
    let used = |device: &DeviceView| {
        device.ledger.is_some() && server.place.as_ref().is_some_and(|place| place.gpus.contains(&device.id))
    };
    let used = gpus.into_iter().filter(|(_, device)| used(device));
    used.chain(own.into_iter().map(|device| (device.kind.to_uppercase(), device))).collect()
}

/// The GPUs, as far as it is known where their time goes, that no server is on.
pub(crate) fn devices_of_nobody(snapshot: &Snapshot) -> Vec<(String, &DeviceView)> {
    let is_shown = |device: &DeviceView| {
        snapshot.servers.iter().any(|server| devices_of(snapshot, server).iter().any(|(_, of)| of.id == device.id))
    };
    let mut gpus = labelled_gpus(snapshot);
    gpus.retain(|(_, device)| device.ledger.is_some() && !is_shown(device));
    gpus
}

fn labelled_gpus(snapshot: &Snapshot) -> Vec<(String, &DeviceView)> {
    let mut gpus = gpus(snapshot);
    // The time of a GPU that is cut is told by its instances.
    gpus.retain(|gpu| !gpu.cut || gpu.device.ledger.is_some());
    let only = gpus.len() == 1;
    let label = |number: &str| if only { "GPU".to_owned() } else { format!("GPU {number}") };
    gpus.iter().map(|gpu| (label(&gpu.number), gpu.device)).collect()
}

/// The entries of a device ledger.
pub(crate) fn device_parts(ledger: &LedgerView<CauseEntry>) -> Vec<Part> {
    let part = |entry: &CauseEntry| {
        let bounds = entry.low_ns.zip(entry.high_ns);
        let apart = |(low, high): &(u64, u64)| high.saturating_sub(*low) as f64 > ledger.interval_ns as f64 * CLOSE;
        Part { bounds: bounds.filter(apart), ..device_part(&entry.cause, entry.ns, entry.quality) }
    };
    in_order(ledger.entries.iter().map(part).collect())
}

/// The entries of a request ledger.
pub(crate) fn request_parts(ledger: &LedgerView<StageEntry>) -> Vec<Part> {
    let parts = ledger.entries.iter().map(|entry| stage_part(&entry.stage, entry.ns, entry.quality)).collect();
    in_order(parts)
}

/// The same places every second, so that a bar does not jump about.
fn in_order(mut parts: Vec<Part>) -> Vec<Part> {
    parts.sort_by_key(|part| part.order);
    name_the_nameless(&mut parts);
    parts
}

/// The words for a stage; a server's own keep their name.
pub(crate) fn stage_words(label: &str) -> String {
    stage_part(label, 0, Quality::Sdk).words
}

/// One entry of a device ledger.
pub(crate) fn device_part(cause: &str, ns: u64, quality: Quality) -> Part {
    let waiting = CAUSES.iter().position(|(label, ..)| *label == FIRST_IDLE).unwrap_or(0);
    if let Some(at) = CAUSES.iter().position(|(label, ..)| *label == cause) {
        let (_, glyph, ascii, words, short, role) = CAUSES[at];
        let order = if at < waiting { at } else { at + AFTER_STAGES };
        let (words, short) = (words.to_owned(), short.to_owned());
        let part = Part { glyph, ascii, letter: glyph.is_ascii_alphabetic(), words, short, order, role, ns, ..UNKNOWN };
        // What is called so says itself what of it is unknown: that the device was busy, or idle, is measured.
        let says_so = quality == Quality::Unknown && cause.ends_with("unknown");
        return if says_so { part } else { part.known(quality) };
    }
    let (prefix, stage) = cause.split_once('.').unwrap_or(("", cause));
    let of_stage = stage_part(stage, ns, quality);
    let order = of_stage.order + waiting;
    match prefix {
        // Whatever the stage, the device stands still: that is waiting.
        "starved" => {
            let words = format!("starved by {}", of_stage.words);
            let role = if quality == Quality::Unknown { Role::Dim } else { Role::Warn };
            Part { words, order, role, ..of_stage }
        }
        "used" => Part { words: format!("used in {}", of_stage.words), order: 0, role: Role::Ok, ..of_stage },
        _ => {
            let words = cause.replace('_', " ");
            Part { short: words.clone(), words, order, ..of_stage }
        }
    }
}

fn stage_part(label: &str, ns: u64, quality: Quality) -> Part {
    let known = Stage::from_name(label).and_then(|stage| STAGES.iter().position(|(known, ..)| *known == stage));
    let part = match known {
        Some(order) => {
            let (_, glyph, words, short, role) = STAGES[order];
            let (words, short) = (words.to_owned(), short.to_owned());
            let order = if glyph == '~' { AFTER_STAGES - 1 } else { order };
            Part { glyph, ascii: glyph, letter: glyph.is_ascii_alphabetic(), words, short, order, role, ns, ..UNKNOWN }
        }
        None if label == "unknown" => {
            let (words, short) = ("unknown".to_owned(), "unknown".to_owned());
            Part { words, short, order: AFTER_STAGES, ns, ..UNKNOWN }
        }
        None => {
            let words = label.replace('_', " ");
            let (short, order) = (words.clone(), STAGES.len());
            Part {
                glyph: NAMELESS,
                ascii: NAMELESS,
                letter: true,
                words,
                short,
                order,
                role: Role::Accent,
                ns,
                ..UNKNOWN
            }
        }
    };
    part.known(quality)
}

/// The first of [`CAUSES`] that says that nothing wanted the device.
const FIRST_IDLE: &str = "unused_parallelism";
/// More than there are stages, built in and a server's own.
const AFTER_STAGES: usize = 2 * Stage::COUNT;

/// What nobody measured.
const UNKNOWN: Part = Part {
    glyph: '?',
    ascii: '?',
    letter: false,
    words: String::new(),
    short: String::new(),
    order: 0,
    role: Role::Dim,
    ns: 0,
    bounds: None,
    certainty: Certainty::Measured,
};

impl Part {
    /// The part as far as it is known; what is not loses its glyph, and keeps its words.
    fn known(self, quality: Quality) -> Self {
        match quality {
            Quality::Counter | Quality::Sdk | Quality::Scraped => self,
            Quality::Inferred => Self { certainty: Certainty::Inferred, ..self },
            Quality::Modelled => Self { certainty: Certainty::Modelled, ..self },
            Quality::Unknown => Self { glyph: '?', ascii: '?', letter: false, role: Role::Dim, ..self },
        }
    }
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
    fn a_bar_goes_from_work_over_waiting_to_idleness_whatever_the_order_of_the_ledger() {
        let causes = ["unknown", "no_demand", "starved.batch_wait", "starved.queue", "quota", "used"];
        let entry = |cause: &str| CauseEntry::new(cause, 1, Quality::Sdk);
        let parts = device_parts(&LedgerView { interval_ns: 6, entries: causes.map(entry).into() });
        assert_eq!(parts.iter().map(|part| part.glyph).collect::<String>(), "█Qqb·?");
    }

    #[test]
    fn bounds_are_told_where_they_are_apart() {
        let entry = |cause: &str, bounds: Option<(u64, u64)>| CauseEntry {
            low_ns: bounds.map(|bounds| bounds.0),
            high_ns: bounds.map(|bounds| bounds.1),
            ..CauseEntry::new(cause, 250, Quality::Inferred)
        };
        let entries = vec![
            entry("compute", None),
            entry("sm_stalled", Some((100, 250))),
            entry("host_compute", Some((245, 255))),
            entry("no_demand", Some((239, 250))),
        ];
        let parts = device_parts(&LedgerView { interval_ns: 1000, entries });
        let bounds: Vec<_> = parts.iter().map(|part| part.bounds).collect();
        assert_eq!(bounds, [None, Some((100, 250)), None, Some((239, 250))]);
    }

    #[test]
    fn of_a_gpu_that_is_cut_the_instances_are_devices_and_not_the_whole() {
        let snapshot = crate::fixtures::mig();
        let labels = |snapshot: &Snapshot, server: &ServerView| -> Vec<String> {
            devices_of(snapshot, server).into_iter().map(|(label, _)| label).collect()
        };
        // A server of which no device is known.
        let stranger = ServerView { id: "server:elsewhere".to_owned(), ..snapshot.servers[0].clone() };
        assert_eq!(labels(&snapshot, &stranger), ["GPU 0.0", "GPU 0.1", "GPU 1"]);
    }

    #[test]
    fn unknown_quality_is_a_question_mark_whatever_the_label() {
        assert_eq!(device_part("compute", 1, Quality::Unknown).glyph, '?');
        assert_eq!(device_part("starved.queue", 1, Quality::Unknown).glyph, '?');
    }

    #[test]
    fn what_a_gpu_without_gpm_leaves_open_is_told_apart_in_its_bar() {
        let parts =
            [("busy_unknown", Quality::Inferred), ("idle_unknown", Quality::Unknown), ("unknown", Quality::Unknown)]
                .map(|(cause, quality)| device_part(cause, 1, quality));
        assert_eq!(parts.each_ref().map(|part| part.glyph), ['▒', '╌', '?']);
        assert_eq!(parts.each_ref().map(|part| part.ascii), ['*', '_', '?']);
    }

    #[test]
    fn no_two_causes_look_the_same() {
        // The CPU's time in the model and the GPU's are each their device's work.
        let looks = CAUSES.iter().filter(|(label, ..)| *label != "used");
        let mut glyphs: Vec<char> = looks.clone().map(|(_, glyph, ..)| *glyph).collect();
        glyphs.sort_unstable();
        assert!(glyphs.windows(2).all(|pair| pair[0] != pair[1]), "{glyphs:?}");
    }

    #[test]
    fn an_unheard_of_cause_of_a_newer_agent_is_drawn_under_its_name() {
        let entry = CauseEntry::new("nvlink_wait", 1, Quality::Counter);
        let parts = device_parts(&LedgerView { interval_ns: 1, entries: vec![entry] });
        assert_eq!((parts[0].glyph, parts[0].words.as_str()), ('n', "nvlink wait"));
    }
}

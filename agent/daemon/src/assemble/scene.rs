//! What a snapshot shows beside what its tick tells: names, pids, places, what cannot be read, the agent itself.
//!
//! A replay makes of a tick what the agent made of it, and then needs only the difference to what was on the screen. That is
//! kept with the tick as JSON: at the agent's first tick and then once a minute the whole difference, in between what
//! changed in it. Whoever begins to read in between waits for the next whole one.
//!
//! A difference is itself JSON. An object goes into the fields of an object, or by number into the items of a list;
//! `[value]` stands for a new value, `[]` for a field that is gone.

use perfwatch_diagnose::Recollection;
use perfwatch_model::Snapshot;
use perfwatch_model::snapshot::{GpuProcessView, ProbeView};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Ticks from one whole difference to the next.
pub(crate) const WHOLE_EVERY: u64 = 60;

/// What is kept with a tick.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// Number of the tick since the agent's start.
    n: u64,
    /// Whether `d` is the whole.
    whole: bool,
    /// What changed, or everything.
    d: Value,
}

/// Writes scenes. One per agent.
#[derive(Debug, Default)]
pub(crate) struct SceneWriter {
    n: u64,
    last: Value,
    /// What probes cost changes at every tick and is on no screen: it is told once a minute.
    probes: Vec<ProbeView>,
    /// By device: its processes in the last scene.
    processes: Vec<Vec<GpuProcessView>>,
    experimental: bool,
    boot: String,
}

impl SceneWriter {
    /// `experimental` says whether such rules are asked: a replay asks the same. `boot` names the machine's.
    pub(crate) fn new(experimental: bool, boot: String) -> Self {
        Self { experimental, boot, ..Self::default() }
    }

    /// The scene of a tick: the way from what it tells (`told`) to what was shown. `living` are the servers and devices, in
    /// order, as `kind:id`; `known` is what whoever goes on from here has to know.
    pub(crate) fn write(
        &mut self,
        mut told: Snapshot,
        shown: &Snapshot,
        living: &[String],
        known: &Recollection,
    ) -> Vec<u8> {
        let whole = self.n.is_multiple_of(WHOLE_EVERY);
        let mut shown = shown.clone();
        leave_out_what_is_equal(&mut told, &mut shown);
        let stand_ins = self.stand_ins(whole, &told, &mut shown);
        let same = |a: &ProbeView, b: &ProbeView| {
            a.name == b.name && a.every_s.total_cmp(&b.every_s).is_eq() && a.stretched == b.stretched
        };
        let are_known = self.probes.len() == shown.agent.probes.len()
            && self.probes.iter().zip(&shown.agent.probes).all(|(known, now)| same(known, now));
        if whole || !are_known {
            self.probes.clone_from(&shown.agent.probes);
        } else {
            shown.agent.probes.clone_from(&self.probes);
        }
        let (Ok(told), Ok(shown)) = (serde_json::to_value(&told), serde_json::to_value(&shown)) else {
            return Vec::new();
        };
        let difference = difference(&told, &shown).unwrap_or_default();
        let mut now = serde_json::json!({ "living": living, "view": difference, "boot": self.boot });
        if self.experimental {
            now["experimental"] = true.into();
        }
        if !known.is_empty() {
            now["known"] = serde_json::to_value(known).unwrap_or_default();
        }
        // What stands for it is the same in both, and so in no difference.
        let same: Vec<_> = stand_ins.into_iter().filter_map(|at| exchange(&mut self.last, &now, at)).collect();
        let d = if whole { now.clone() } else { self::difference(&self.last, &now).unwrap_or_default() };
        for (at, processes) in same {
            if let Some(stand_in) = now.pointer_mut(&place(at)) {
                *stand_in = processes;
            }
        }
        self.last = now;
        let kept = Kept { n: self.n, whole, d };
        self.n += 1;
        serde_json::to_vec(&kept).unwrap_or_default()
    }

    /// The devices whose processes are those of the last scene. There may be many, and they seldom change: something small
    /// stands in for them, of which to make JSON costs little.
    fn stand_ins(&mut self, whole: bool, told: &Snapshot, shown: &mut Snapshot) -> Vec<usize> {
        let comparable = !whole && told.devices.len() == shown.devices.len();
        let tells = |at: usize| told.devices.get(at).is_some_and(|device| device.gpu.is_some());
        let mut devices = Vec::new();
        self.processes.resize_with(shown.devices.len(), Vec::new);
        for (at, (device, known)) in shown.devices.iter_mut().zip(&mut self.processes).enumerate() {
            let Some(gpu) = &mut device.gpu else {
                known.clear();
                continue;
            };
            if gpu.processes != *known {
                known.clone_from(&gpu.processes);
            } else if comparable && !known.is_empty() && tells(at) && self.last.pointer(&place(at)).is_some() {
                gpu.processes = vec![GpuProcessView::default()];
                devices.push(at);
            }
        }
        devices
    }
}

/// Where the processes of a device stand in what is known of a scene.
fn place(device: usize) -> String {
    format!("/view/devices/{device}/gpu/processes/0")
}

/// Takes the processes of a device out of the last scene, and puts what stands in for them in their place.
fn exchange(last: &mut Value, now: &Value, device: usize) -> Option<(usize, Value)> {
    let stand_in = now.pointer(&place(device))?.clone();
    let processes = std::mem::replace(last.pointer_mut(&place(device))?, stand_in);
    Some((device, processes))
}

/// Takes out of both what is large and the same in both: it has no part in the difference, and making JSON of it would cost
/// more than the whole diagnosis. What is not named here is found equal later, at that cost.
fn leave_out_what_is_equal(told: &mut Snapshot, shown: &mut Snapshot) {
    fn leave_out<T: PartialEq + Default>(told: &mut T, shown: &mut T) {
        if told == shown {
            (*told, *shown) = (T::default(), T::default());
        }
    }
    leave_out(&mut told.findings, &mut shown.findings);
    leave_out(&mut told.undecided, &mut shown.undecided);
    for (told, shown) in told.servers.iter_mut().zip(&mut shown.servers) {
        leave_out(&mut told.ledger, &mut shown.ledger);
        leave_out(&mut told.latency, &mut shown.latency);
        leave_out(&mut told.latency_buckets, &mut shown.latency_buckets);
        leave_out(&mut told.slowest, &mut shown.slowest);
        leave_out(&mut told.stages, &mut shown.stages);
        leave_out(&mut told.errors_by_kind, &mut shown.errors_by_kind);
        leave_out(&mut told.batch, &mut shown.batch);
        leave_out(&mut told.tokens, &mut shown.tokens);
        leave_out(&mut told.time_to_first_token, &mut shown.time_to_first_token);
        leave_out(&mut told.inter_token, &mut shown.inter_token);
        leave_out(&mut told.cache, &mut shown.cache);
    }
    if told.devices.len() == shown.devices.len() {
        for (told, shown) in told.devices.iter_mut().zip(&mut shown.devices) {
            leave_out(&mut told.ledger, &mut shown.ledger);
            if let (Some(told), Some(shown)) = (&mut told.gpu, &mut shown.gpu) {
                // Of a GPU no tick tells the processes, and where it is plugged in.
                let processes = std::mem::take(&mut shown.processes);
                let (left_out, unknown) =
                    (std::mem::take(&mut shown.processes_left_out), shown.processes_unknown.take());
                let pci = shown.pci_bus_id.take();
                leave_out(told, shown);
                (shown.processes, shown.processes_left_out) = (processes, left_out);
                (shown.processes_unknown, shown.pci_bus_id) = (unknown, pci);
            }
        }
    }
}

/// What a scene was to the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follows {
    /// An agent's first: what was known of an agent before it is void.
    First,
    /// It follows, or is whole: everything is known.
    Known,
    /// Something is missing before it.
    Unknown,
}

/// Reads scenes in order.
#[derive(Debug, Default)]
pub(crate) struct SceneReader {
    next: Option<u64>,
    now: Value,
}

impl SceneReader {
    /// Takes in the scene of the next tick.
    pub(crate) fn read(&mut self, scene: &[u8]) -> Follows {
        let Ok(Kept { n, whole, d }) = serde_json::from_slice::<Kept>(scene) else {
            *self = Self::default();
            return Follows::Unknown;
        };
        if whole {
            self.now = d;
        } else if self.next == Some(n) {
            apply(&mut self.now, &d);
        } else {
            *self = Self::default();
            return Follows::Unknown;
        }
        self.next = Some(n + 1);
        if n == 0 { Follows::First } else { Follows::Known }
    }

    /// The servers and devices that lived, in order; `None` while nothing is known.
    pub(crate) fn living(&self) -> Option<Vec<&str>> {
        Some(self.now.get("living")?.as_array()?.iter().filter_map(Value::as_str).collect())
    }

    /// Whether experimental rules were asked.
    pub(crate) fn experimental(&self) -> bool {
        self.now.get("experimental").and_then(Value::as_bool) == Some(true)
    }

    /// In which boot of the machine it was; `None` where nothing is known, and of agents who did not tell what they knew.
    pub(crate) fn boot(&self) -> Option<&str> {
        self.now.get("boot")?.as_str()
    }

    /// What whoever goes on from here has to know.
    pub(crate) fn known(&self) -> Recollection {
        // What does not fit, as of a damaged scene, is nothing.
        self.now.get("known").and_then(|known| Recollection::deserialize(known).ok()).unwrap_or_default()
    }

    /// What was shown of a tick that tells this.
    pub(crate) fn shown(&self, told: Snapshot) -> Snapshot {
        let (Some(view), Ok(mut value)) = (self.now.get("view"), serde_json::to_value(&told)) else { return told };
        apply(&mut value, view);
        // A difference that does not fit, as a damaged one, leaves what the tick tells.
        serde_json::from_value(value).unwrap_or(told)
    }
}

/// The way from one value to another; `None` when they are equal.
fn difference(old: &Value, new: &Value) -> Option<Value> {
    if old == new {
        return None;
    }
    let ways = match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let gone = old.keys().filter(|key| !new.contains_key(*key));
            let gone = gone.map(|key| (key.clone(), Value::Array(Vec::new())));
            let changed = new.iter().filter_map(|(key, value)| {
                let way = match old.get(key) {
                    Some(before) => difference(before, value)?,
                    None => Value::Array(vec![value.clone()]),
                };
                Some((key.clone(), way))
            });
            gone.chain(changed).collect::<Map<_, _>>()
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            let ways = old.iter().zip(new).enumerate();
            ways.filter_map(|(at, (old, new))| Some((at.to_string(), difference(old, new)?))).collect()
        }
        _ => return Some(Value::Array(vec![new.clone()])),
    };
    Some(Value::Object(ways))
}

/// Goes that way.
fn apply(value: &mut Value, way: &Value) {
    match way {
        Value::Array(new) => {
            if let [new] = new.as_slice() {
                value.clone_from(new);
            }
        }
        Value::Object(ways) => match value {
            Value::Object(fields) => {
                for (key, way) in ways {
                    if way.as_array().is_some_and(Vec::is_empty) {
                        fields.remove(key);
                    } else {
                        apply(fields.entry(key).or_insert(Value::Null), way);
                    }
                }
            }
            Value::Array(items) => {
                for (at, way) in ways {
                    if let Some(item) = at.parse::<usize>().ok().and_then(|at| items.get_mut(at)) {
                        apply(item, way);
                    }
                }
            }
            _ => {}
        },
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_difference_leads_from_any_value_to_any_other() {
        let values = [
            json!(null),
            json!(1.5),
            json!([]),
            json!([null, [1]]),
            json!([{"a": 1}, [2]]),
            json!({}),
            json!({"a": null, "b": [1, 2], "0": "x"}),
            json!({"a": {"c": []}, "b": [1, {"d": null}]}),
        ];
        for old in &values {
            for new in &values {
                let mut value = old.clone();
                if let Some(way) = difference(old, new) {
                    apply(&mut value, &way);
                }
                assert_eq!(value, *new, "from {old}");
            }
        }
    }

    fn shown(second: u64) -> (Snapshot, Snapshot) {
        let probe =
            |name: &str| ProbeView { name: name.to_owned(), mean_s: 1e-5, max_s: 1e-3, every_s: 1.0, stretched: false };
        let missing = |metric: &str| perfwatch_model::snapshot::Unavailable {
            metric: metric.to_owned(),
            entity: "host:here".to_owned(),
            reason: "no such file".to_owned(),
            cure: "mount it".to_owned(),
            kind: perfwatch_model::AbsenceKind::Normal,
        };
        let told = Snapshot {
            schema_version: 1,
            time: "2026-03-04T10:00:00.000Z".to_owned(),
            window_s: 10.0,
            host: perfwatch_model::snapshot::HostView { cpus: 4, ..Default::default() },
            devices: Vec::new(),
            servers: Vec::new(),
            findings: Vec::new(),
            undecided: vec!["a".to_owned(), "b".to_owned()],
            unavailable: Vec::new(),
            agent: perfwatch_model::snapshot::AgentView::default(),
        };
        let mut shown = told.clone();
        shown.host.name = "here".to_owned();
        shown.unavailable = vec![missing("a"), missing("b")];
        shown.agent.probes = vec![probe("cpu"), probe("memory")];
        shown.agent.uptime_s = second as f64 / 3.0;
        (told, shown)
    }

    #[test]
    fn what_was_shown_comes_back_of_what_the_ticks_tell() {
        let (mut writer, mut reader) = (SceneWriter::default(), SceneReader::default());
        let mut bytes = Vec::new();
        for second in 0..150 {
            let (told, shown) = shown(second);
            let scene = writer.write(told.clone(), &shown, &["server:a/1".to_owned()], &Recollection::default());
            bytes.push(scene.len());
            let follows = reader.read(&scene);
            assert_eq!(follows == Follows::First, second == 0);
            assert_ne!(follows, Follows::Unknown);
            assert_eq!(reader.shown(told), shown);
        }
        assert!(bytes[1] * 4 < bytes[0], "only what changed: {bytes:?}");
    }

    #[test]
    fn processes_come_back_whatever_becomes_of_them_and_cost_nothing_while_they_stay() {
        let device = |processes: &[GpuProcessView]| perfwatch_model::snapshot::DeviceView {
            id: "gpu:GPU-1".to_owned(),
            kind: "gpu".to_owned(),
            name: String::new(),
            ledger: None,
            cpu: None,
            gpu: Some(perfwatch_model::snapshot::GpuView { processes: processes.to_vec(), ..Default::default() }),
        };
        let process = |pid| GpuProcessView { pid, name: Some("python3".to_owned()), ..GpuProcessView::default() };
        let (one, two) = (vec![process(1), process(2)], vec![process(2)]);
        let changed = vec![process(1), GpuProcessView { memory_bytes: Some(5), ..process(2) }];
        let (mut writer, mut reader) = (SceneWriter::default(), SceneReader::default());
        let mut bytes = Vec::new();
        // Two devices, the second of which comes and goes; the sixtieth scene is a whole one.
        for second in 0..130_u64 {
            let (mut told, mut shown) = shown(second);
            let lists = [&one, &one, &one, &two, &one, &changed, &changed, &Vec::new(), &one];
            // Around the whole one they change with each.
            let every = if (58..64).contains(&second) { 1 } else { 3 };
            let now = lists[(second / every) as usize % lists.len()];
            told.devices = vec![device(&[]), device(&[])];
            shown.devices = vec![device(now), device(&one)];
            if second % 40 > 35 {
                shown.devices.truncate(1);
            }
            let scene = writer.write(told.clone(), &shown, &[], &Recollection::default());
            bytes.push(scene.len());
            assert_ne!(reader.read(&scene), Follows::Unknown);
            assert_eq!(reader.shown(told), shown, "second {second}");
        }
        assert!(bytes[2] < 100, "nothing changed but the time: {bytes:?}");
    }

    #[test]
    fn a_scene_that_is_missing_is_waited_for_and_a_broken_one_does_no_harm() {
        let (mut writer, mut reader) = (SceneWriter::default(), SceneReader::default());
        let scenes: Vec<_> = (0..70)
            .map(|second| {
                let (told, shown) = shown(second);
                writer.write(told, &shown, &[], &Recollection::default())
            })
            .collect();
        assert_eq!(reader.read(&scenes[5]), Follows::Unknown);
        assert_eq!(reader.read(&scenes[0]), Follows::First);
        assert_eq!(reader.read(&scenes[2]), Follows::Unknown, "the second is missing");
        assert_eq!((reader.read(b"{\"n\":"), reader.read(b"")), (Follows::Unknown, Follows::Unknown));
        assert_eq!(reader.shown(shown(1).0), shown(1).0);
        assert_eq!(reader.read(&scenes[60]), Follows::Known);
        let mut hostile = SceneReader::default();
        hostile.read(br#"{"n":0,"whole":true,"d":{"living":[1,"x"],"view":{"host":[7],"servers":{"9":[1]}}}}"#);
        assert_eq!(hostile.shown(shown(1).0), shown(1).0);
        assert_eq!(hostile.living(), Some(vec!["x"]));
    }
}

//! The slowest requests of each server over the window, of the samples that the ticks carry.

use std::collections::HashMap;
use std::fmt::Write;

use perfwatch_model::snapshot::{SlowRequestView, SlowStageView};
use perfwatch_model::tick::MAX_SLOW;
use perfwatch_model::{EntityId, ServerTick, SlowRequest, Stage, Tick};

/// As many are shown per server.
const SHOWN: usize = 5;
/// Else one tick could hold more of the window's slowest than it brings.
const _: () = assert!(SHOWN <= MAX_SLOW);

/// Samples of the last seconds, by server.
#[derive(Debug, Default)]
pub(super) struct Slowest(HashMap<EntityId, Vec<(u64, SlowRequestView)>>);

impl Slowest {
    /// Takes in a tick's samples and forgets those of requests that ended more than `window_ns` before its end.
    pub(super) fn update(&mut self, tick: &Tick, window_ns: u64) {
        let now = tick.end.mono_ns;
        for server in tick.servers.iter().filter(|server| !server.slow.is_empty()) {
            let samples = self.0.entry(server.entity).or_default();
            samples.extend(server.slow.iter().map(|request| (request.end_ns.min(now), view(server, request))));
            samples.sort_by(|(_, a), (_, b)| b.duration_s.total_cmp(&a.duration_s));
        }
        self.0.retain(|_, samples| {
            samples.retain(|(end, _)| end.saturating_add(window_ns) > now);
            !samples.is_empty()
        });
    }

    /// A server's slowest requests, slowest first.
    pub(super) fn of(&self, server: EntityId) -> Vec<SlowRequestView> {
        let samples = self.0.get(&server).into_iter().flatten();
        samples.take(SHOWN).map(|(_, view)| view.clone()).collect()
    }
}

fn view(server: &ServerTick, request: &SlowRequest) -> SlowRequestView {
    let spent = Stage::all().map(|stage| (stage, request.stage_ns[stage.index()])).filter(|(_, ns)| *ns > 0);
    SlowRequestView {
        duration_s: request.duration_ns as f64 / 1e9,
        stages: spent
            .map(|(stage, ns)| SlowStageView { stage: server.stage_name(stage).into_owned(), s: ns as f64 / 1e9 })
            .collect(),
        trace_id: request.trace_id.map(|id| hexadecimal(&id)),
        error: request.error.as_deref().map(str::to_owned),
    }
}

fn hexadecimal(id: &[u8]) -> String {
    id.iter().fold(String::with_capacity(id.len() * 2), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use perfwatch_model::{Entity, EntityKind, SeriesTable, Stamp};

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn request(end_ns: u64, duration_ms: u64) -> SlowRequest {
        let mut stage_ns = [0; Stage::COUNT];
        stage_ns[Stage::Queue.index()] = 1_000_000;
        stage_ns[usize::from(Stage::FIRST_CUSTOM)] = (duration_ms - 1) * 1_000_000;
        SlowRequest {
            end_ns,
            duration_ns: duration_ms * 1_000_000,
            stage_ns,
            trace_id: Some([0xab; 16]),
            error: None,
            prompt_tokens: 0,
            generated_tokens: 0,
            first_token_ns: None,
        }
    }

    fn tick(second: u64, entity: EntityId, durations_ms: &[u64]) -> Tick {
        let mut server = ServerTick::empty(entity);
        server.custom_stages = vec!["rerank".to_owned()].into();
        server.slow = durations_ms.iter().map(|ms| request(second * SECOND, *ms)).collect();
        let end = Stamp { mono_ns: second * SECOND, wall_ns: second * SECOND };
        Tick { end, dt_ns: SECOND, servers: vec![server], ..Tick::default() }
    }

    #[test]
    fn the_slowest_of_the_window_are_kept_and_leave_with_it() {
        let mut table = SeriesTable::new();
        let entity = table.entity(Entity::new(EntityKind::Server, "toy/1"));
        let mut slowest = Slowest::default();
        slowest.update(&tick(1, entity, &[900, 30, 20]), 10 * SECOND);
        slowest.update(&tick(2, entity, &[50, 40, 10, 9]), 10 * SECOND);
        let durations = |slowest: &Slowest| -> Vec<u64> {
            slowest.of(entity).iter().map(|request| (request.duration_s * 1e3).round() as u64).collect()
        };
        assert_eq!(durations(&slowest), [900, 50, 40, 30, 20]);
        slowest.update(&tick(11, entity, &[]), 10 * SECOND);
        assert_eq!(durations(&slowest), [50, 40, 10, 9], "the first second has left");
        let mut late = tick(12, entity, &[]);
        late.servers[0].slow = vec![request(SECOND, 800), request(11 * SECOND, 700)];
        slowest.update(&late, 10 * SECOND);
        assert_eq!(durations(&slowest), [700], "of what came late, what ended in the window");
        slowest.update(&tick(21, entity, &[]), 10 * SECOND);
        assert!(slowest.0.is_empty());
    }

    #[test]
    fn a_sample_names_its_stages_and_its_trace() {
        let mut table = SeriesTable::new();
        let entity = table.entity(Entity::new(EntityKind::Server, "toy/1"));
        let mut slowest = Slowest::default();
        slowest.update(&tick(1, entity, &[690]), 10 * SECOND);
        let request = slowest.of(entity).remove(0);
        let stages: Vec<(&str, f64)> = request.stages.iter().map(|part| (part.stage.as_str(), part.s)).collect();
        assert_eq!(stages, [("queue", 0.001), ("rerank", 0.689)]);
        assert_eq!(request.trace_id.as_deref(), Some("abababababababababababababababab"));
    }
}

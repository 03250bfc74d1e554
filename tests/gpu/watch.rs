//! The first GPU of the machine, as `nvidia-smi` and the probe see it.

use std::process::Command;
use std::time::{Duration, Instant};

use perfwatch_model::{
    Attr, Entity, EntityId, EntityKind, Instrument, MetricDef, Number, Sample, SeriesTable, Stamp, Tick,
};
use perfwatch_probes::gpu::{GpuContext, GpuDevice, GpuProbe, Vendor, nvidia::Nvidia};
use rustix::time::{ClockId, clock_gettime};

use crate::smi::{self, Card};

/// The first GPU that `nvidia-smi` lists.
pub(crate) fn card() -> Card {
    let asked = [format!("--query-gpu={}", smi::COLUMNS), "--format=csv,noheader,nounits".to_owned()];
    let output = Command::new("nvidia-smi").args(asked).output().unwrap_or_else(|error| {
        panic!("the feature `gpu` asks for a machine with an NVIDIA GPU, and `nvidia-smi` does not run: {error}")
    });
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "nvidia-smi failed: {text}{}", String::from_utf8_lossy(&output.stderr));
    let cards = smi::parse(&text).unwrap_or_else(|line| panic!("nvidia-smi printed `{line}`"));
    cards
        .into_iter()
        .next()
        .expect("the feature `gpu` asks for a machine with an NVIDIA GPU, and nvidia-smi lists none")
}

/// The probe, with the table, tick and clock that an agent would give it.
pub(crate) struct Watch {
    pub(crate) probe: Box<dyn GpuProbe>,
    pub(crate) table: SeriesTable,
    pub(crate) tick: Tick,
}

impl Watch {
    /// Opens the probe and waits until the driver has answered; without persistence mode it starts the GPU first.
    pub(crate) fn open() -> Self {
        let mut table = SeriesTable::new();
        let host = table.entity(Entity::new(EntityKind::Host, "test"));
        let context = GpuContext { budget: Duration::from_secs(20), ..GpuContext::live(host, None) };
        let mut watch = Self { probe: Nvidia.open(&context), table, tick: Tick::default() };
        watch.sample_at(now());
        let absent = watch.tick.absent.first().map(|absent| &absent.reason);
        assert!(!watch.probe.devices().is_empty(), "the probe sees no GPU: {absent:?}");
        watch
    }

    pub(crate) fn sample_at(&mut self, now: Stamp) {
        self.tick.clear();
        self.probe.sample(now, &mut Sample::new(&mut self.table, &mut self.tick));
        self.tick.seal();
    }

    /// Waits for the end of this second of the monotonic clock, as an agent does, and samples.
    pub(crate) fn sample_next_second(&mut self) {
        const SECOND: u64 = 1_000_000_000;
        let end_ns = (now().mono_ns / SECOND + 1) * SECOND;
        std::thread::sleep(Duration::from_nanos(end_ns - now().mono_ns));
        self.sample_at(now());
    }

    pub(crate) fn device(&self, uuid: &str) -> &GpuDevice {
        let known = self.probe.devices().iter().find(|device| device.uuid == uuid);
        known.unwrap_or_else(|| panic!("the probe does not know {uuid}"))
    }

    /// A value of the last sample; the reason when there is none.
    pub(crate) fn value(&self, metric: &MetricDef, uuid: &str, attrs: &[Attr]) -> Result<f64, String> {
        let entity = self.device(uuid).entity;
        let series = self.table.find(metric, entity, attrs);
        let value = series.and_then(|series| self.tick.value(series)).map(Number::as_f64);
        value.ok_or_else(|| format!("{}: {}", metric.name, self.reason(metric, entity)))
    }

    fn reason(&self, metric: &MetricDef, entity: EntityId) -> String {
        let absence = self.tick.absent.iter().find(|absent| absent.metric == metric.name && absent.entity == entity);
        absence.map_or_else(|| "no value".to_owned(), |absence| absence.reason.text.to_string())
    }

    /// Means over five seconds, of those in which there was a value; of counters, the rise per second.
    pub(crate) fn means<const N: usize>(
        &mut self,
        uuid: &str,
        of: [(&MetricDef, &[Attr]); N],
    ) -> [Result<f64, String>; N] {
        const SECONDS: usize = 5;
        // GPM compares two samples.
        self.sample_next_second();
        self.sample_next_second();
        let began = Instant::now();
        let first = of.map(|(metric, attrs)| self.value(metric, uuid, attrs));
        let (mut sums, mut counts) = ([0.0; N], [0_usize; N]);
        for _ in 0..SECONDS {
            self.sample_next_second();
            for (at, (metric, attrs)) in of.iter().enumerate() {
                if let Ok(value) = self.value(metric, uuid, attrs) {
                    (sums[at], counts[at]) = (sums[at] + value, counts[at] + 1);
                }
            }
        }
        let took = began.elapsed().as_secs_f64();
        std::array::from_fn(|at| {
            let (metric, attrs) = of[at];
            match metric.instrument {
                Instrument::Counter => Ok((self.value(metric, uuid, attrs)? - first[at].clone()?) / took),
                _ if counts[at] == 0 => Err(self.value(metric, uuid, attrs).err().unwrap_or_default()),
                _ => Ok(sums[at] / counts[at] as f64),
            }
        })
    }
}

/// The clocks that an agent samples by.
pub(crate) fn now() -> Stamp {
    let of = |clock| {
        let now = clock_gettime(clock);
        now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
    };
    Stamp { mono_ns: of(ClockId::Monotonic), wall_ns: of(ClockId::Realtime) }
}

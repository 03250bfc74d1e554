//! The message of a GPU inside a tick's blob.

use std::io;

use perfwatch_model::tick::SLOTS;
use perfwatch_model::{EntityId, GpuSlot, GpuTick, Share, Sharing};

use super::invalid;

/// What a GPU did.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct GpuRow {
    #[prost(uint32, tag = "1")]
    entity: u32,
    /// Shares of the ten slots in ten-thousandths, [`UNKNOWN`] where there is none: those of one unit after those of another.
    #[prost(uint32, repeated, tag = "2")]
    pub(super) shares: Vec<u32>,
    /// A bit for each slot: its measurement covers the one before it too.
    #[prost(uint32, tag = "3")]
    continued: u32,
    #[prost(uint32, repeated, tag = "4")]
    servers: Vec<u32>,
    /// Place in [`Sharing::ALL`].
    #[prost(uint32, tag = "5")]
    sharing: u32,
    /// SM time of its servers and of others, kept as the shares are.
    #[prost(uint32, tag = "6")]
    own_sm: u32,
    #[prost(uint32, tag = "7")]
    other_sm: u32,
    #[prost(uint32, optional, tag = "8")]
    processes: Option<u32>,
}

/// Stands for no share: one byte in the message, where a share takes two.
const UNKNOWN: u32 = 0;

fn kept(share: Share) -> u32 {
    if share == Share::UNKNOWN { UNKNOWN } else { u32::from(share.raw()) + 1 }
}

fn share(kept: u32) -> Share {
    let raw = kept.checked_sub(1).and_then(|raw| u16::try_from(raw).ok());
    raw.map_or(Share::UNKNOWN, Share::from_raw)
}

impl GpuRow {
    pub(super) fn of(entity: u32, servers: Vec<u32>, tick: &GpuTick) -> Self {
        let units = tick.slots[0].shares().len();
        let shares = (0..units).flat_map(|unit| tick.slots.iter().map(move |slot| kept(slot.shares()[unit])));
        let continued = tick.slots.iter().enumerate().map(|(at, slot)| u32::from(slot.continued) << at).sum();
        let sharing = Sharing::ALL.iter().position(|known| *known == tick.sharing).unwrap_or(0) as u32;
        Self {
            entity,
            shares: shares.collect(),
            continued,
            servers,
            sharing,
            own_sm: kept(tick.own_sm),
            other_sm: kept(tick.other_sm),
            processes: tick.processes,
        }
    }

    pub(super) fn tick(self, entity: impl Fn(u32) -> io::Result<EntityId>) -> io::Result<GpuTick> {
        let mut tick = GpuTick::unknown(entity(self.entity)?);
        // Units are added at the end: an older agent had fewer, a newer one may have more.
        if !self.shares.len().is_multiple_of(SLOTS) {
            return Err(invalid("a GPU's row is no whole number of slots"));
        }
        for (at, slot) in tick.slots.iter_mut().enumerate() {
            let of = |unit: usize| self.shares.get(unit * SLOTS + at).map_or(Share::UNKNOWN, |kept| share(*kept));
            let continued = self.continued >> at & 1 == 1;
            *slot = GpuSlot {
                graphics: of(0),
                sm: of(1),
                tensor: of(2),
                vector: of(3),
                dram: of(4),
                vectors: of(5),
                link: of(6),
                continued,
            };
        }
        tick.servers = self.servers.into_iter().map(entity).collect::<io::Result<_>>()?;
        tick.sharing = Sharing::ALL.get(self.sharing as usize).copied().unwrap_or_default();
        tick.processes = self.processes;
        (tick.own_sm, tick.other_sm) = (share(self.own_sm), share(self.other_sm));
        Ok(tick)
    }
}

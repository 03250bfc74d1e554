//! The one vocabulary of request stages, used by the SDK, the ledgers, the metrics and the screens.

use std::fmt;

/// What a request is doing. A request is in exactly one stage at any instant.
///
/// Stages 0–9 are built in, 10 is `other` (time that nothing claimed), 11–15 are a server's own, whose names travel with
/// the server and are looked up in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stage(u8);

/// Names of the built-in stages, by number.
const NAMES: [&str; 11] = [
    "queue",
    "preprocess",
    "data_load",
    "batch_wait",
    "transfer",
    "compute",
    "prefill",
    "decode",
    "postprocess",
    "send",
    "other",
];

#[allow(non_upper_case_globals, reason = "they read like the enum variants they stand for")]
impl Stage {
    /// Waiting to be taken up at all.
    pub const Queue: Self = Self(0);
    /// Decoding, tokenising, resizing: CPU work on the input.
    pub const Preprocess: Self = Self(1);
    /// Fetching features, embeddings or files that the model needs.
    pub const DataLoad: Self = Self(2);
    /// Ready for the model, waiting for a batch to form or for its turn.
    pub const BatchWait: Self = Self(3);
    /// Copying between host and device.
    pub const Transfer: Self = Self(4);
    /// Inside the model.
    pub const Compute: Self = Self(5);
    /// Inside the model, reading the prompt.
    pub const Prefill: Self = Self(6);
    /// Inside the model, generating tokens.
    pub const Decode: Self = Self(7);
    /// CPU work on the output.
    pub const Postprocess: Self = Self(8);
    /// Writing the response to the client.
    pub const Send: Self = Self(9);
    /// In the server, in no stage that it named.
    pub const Other: Self = Self(10);
}

impl Stage {
    /// How many stages a server can have, its own included.
    pub const COUNT: usize = 16;
    /// Number of the first stage that a server may name itself.
    pub const FIRST_CUSTOM: u8 = 11;

    /// The stage with this number; `None` from [`Stage::COUNT`] up.
    pub const fn from_index(index: usize) -> Option<Self> {
        if index < Self::COUNT { Some(Self(index as u8)) } else { None }
    }

    /// This stage's number, below [`Stage::COUNT`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The built-in stage with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        NAMES.iter().position(|known| *known == name).map(|index| Self(index as u8))
    }

    /// The name of a built-in stage; `None` for a server's own.
    pub fn name(self) -> Option<&'static str> {
        NAMES.get(self.index()).copied()
    }

    /// True for the stages a server named itself.
    pub const fn is_custom(self) -> bool {
        self.0 >= Self::FIRST_CUSTOM
    }

    /// All stages, in order of number.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT as u8).map(Self)
    }

    /// The state a server is in when this is the first occupied stage.
    pub const fn state(self) -> State {
        match self.0 {
            0 => State::Queue,
            1 => State::Preprocess,
            2 => State::DataLoad,
            3 => State::BatchWait,
            4 => State::Transfer,
            5..=7 => State::Compute,
            8 => State::Postprocess,
            9 => State::Send,
            _ => State::Other,
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "custom{}", self.0 - Self::FIRST_CUSTOM),
        }
    }
}

/// What a server as a whole is doing at an instant: the first occupied of these, in this order, or [`State::None`].
///
/// The order makes it a joint statement: `DataLoad` means "some request is loading data *and* none is being transferred
/// or computed", so one slow `send` cannot hide data loading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum State {
    /// A request is inside the model (`compute`, `prefill` or `decode`).
    Compute = 0,
    /// A request is being copied to or from the device.
    Transfer = 1,
    /// A request waits for its batch.
    BatchWait = 2,
    /// A request waits for data.
    DataLoad = 3,
    /// A request is being preprocessed.
    Preprocess = 4,
    /// A request waits to be taken up.
    Queue = 5,
    /// A request is being postprocessed.
    Postprocess = 6,
    /// A response is being written.
    Send = 7,
    /// A request is in a stage of the server's own, or in none.
    Other = 8,
    /// The server has no request.
    None = 9,
}

impl State {
    /// How many states there are.
    pub const COUNT: usize = 10;
    /// All states, in order of precedence.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Compute,
        Self::Transfer,
        Self::BatchWait,
        Self::DataLoad,
        Self::Preprocess,
        Self::Queue,
        Self::Postprocess,
        Self::Send,
        Self::Other,
        Self::None,
    ];

    /// This state's number, below [`State::COUNT`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name used on the wire, in JSON and in ledgers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Compute => "compute",
            Self::Transfer => "transfer",
            Self::BatchWait => "batch_wait",
            Self::DataLoad => "data_load",
            Self::Preprocess => "preprocess",
            Self::Queue => "queue",
            Self::Postprocess => "postprocess",
            Self::Send => "send",
            Self::Other => "other",
            Self::None => "none",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_of_stages_agree() {
        for stage in Stage::all() {
            assert_eq!(Stage::from_index(stage.index()), Some(stage));
            match stage.name() {
                Some(name) => assert_eq!(Stage::from_name(name), Some(stage)),
                None => assert!(stage.is_custom()),
            }
        }
        assert_eq!(Stage::from_index(Stage::COUNT), None);
    }

    #[test]
    fn states_are_numbered_in_order_of_precedence() {
        for (index, state) in State::ALL.iter().enumerate() {
            assert_eq!(state.index(), index);
        }
        assert!(State::Compute < State::DataLoad && State::DataLoad < State::Send && State::Other < State::None);
    }
}

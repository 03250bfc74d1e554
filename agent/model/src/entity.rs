//! What a number is about.

use std::borrow::Cow;
use std::fmt;

/// The kinds of things perfwatch measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntityKind {
    /// The machine, as far as this agent can see it.
    Host,
    /// A control group.
    Cgroup,
    /// A GPU, by NVML UUID; a MIG instance has a parent.
    Gpu,
    /// A process, by pid and start time.
    Process,
    /// A model server: (service, instance).
    Server,
    /// The agent itself.
    Agent,
}

impl EntityKind {
    /// All.
    pub const ALL: [Self; 6] = [Self::Host, Self::Cgroup, Self::Gpu, Self::Process, Self::Server, Self::Agent];

    /// The word before the colon in `kind:id`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Cgroup => "cgroup",
            Self::Gpu => "gpu",
            Self::Process => "process",
            Self::Server => "server",
            Self::Agent => "agent",
        }
    }
}

/// Handle of an entity, local to one [`crate::SeriesTable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityId(pub u32);

/// One thing that is measured, and what is known about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Entity {
    /// What it is.
    pub kind: EntityKind,
    /// Unique within the kind, and stable for as long as the thing lives.
    pub id: String,
    /// OpenTelemetry semantic-convention attributes; they leave with every series of the entity.
    pub attributes: Vec<Attr>,
}

impl Entity {
    /// An entity without attributes.
    pub fn new(kind: EntityKind, id: impl Into<String>) -> Self {
        Self { kind, id: id.into(), attributes: Vec::new() }
    }

    /// The entity with one more attribute.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<AttrValue>) -> Self {
        self.attributes.push(Attr { key, value: value.into() });
        self
    }
}

impl fmt::Display for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind.name(), self.id)
    }
}

/// One attribute of an entity or a series.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attr {
    /// Semantic-convention name.
    pub key: &'static str,
    /// Its value.
    pub value: AttrValue,
}

impl Attr {
    /// An attribute whose value is known at compile time.
    pub const fn fixed(key: &'static str, value: &'static str) -> Self {
        Self { key, value: AttrValue::Text(Cow::Borrowed(value)) }
    }

    /// An attribute with an integer value.
    pub const fn int(key: &'static str, value: i64) -> Self {
        Self { key, value: AttrValue::Int(value) }
    }

    /// An attribute with a text value.
    pub fn text(key: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        Self { key, value: AttrValue::Text(value.into()) }
    }
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AttrValue {
    /// Text.
    Text(Cow<'static, str>),
    /// An integer.
    Int(i64),
}

impl fmt::Display for AttrValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Int(number) => write!(f, "{number}"),
        }
    }
}

impl From<&'static str> for AttrValue {
    fn from(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for AttrValue {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<i64> for AttrValue {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<u32> for AttrValue {
    fn from(number: u32) -> Self {
        Self::Int(i64::from(number))
    }
}

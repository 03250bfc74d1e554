//! The types of settings: what each takes, and how it is written.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A value before its key has looked at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Raw {
    /// Text, from anywhere. A list has its items between commas.
    Text(String),
    /// A number, from a file.
    Number(String),
    /// A list, from a file.
    List(Vec<String>),
}

impl Raw {
    fn scalar(&self) -> Result<&str, String> {
        match self {
            Self::Text(text) | Self::Number(text) => Ok(text.trim()),
            Self::List(_) => Err("takes one value, not a list".to_owned()),
        }
    }

    fn items(&self) -> Vec<String> {
        match self {
            Self::Text(text) | Self::Number(text) => {
                text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
            }
            Self::List(items) => items.clone(),
        }
    }
}

/// A type that a setting can have.
pub(super) trait Value: Sized {
    /// The value, or what is wrong, to be read after the key's name.
    fn parse(raw: &Raw) -> Result<Self, String>;
    /// The value as TOML; empty for "not set".
    fn show(&self) -> String;
}

fn quoted(text: impl fmt::Display) -> String {
    toml::Value::String(text.to_string()).to_string()
}

impl Value for Option<PathBuf> {
    fn parse(raw: &Raw) -> Result<Self, String> {
        match raw {
            Raw::Text(text) if !text.is_empty() => Ok(Some(PathBuf::from(text))),
            _ => Err("takes a path".to_owned()),
        }
    }

    fn show(&self) -> String {
        self.as_ref().map_or_else(String::new, |path| quoted(path.display()))
    }
}

impl Value for Option<String> {
    fn parse(raw: &Raw) -> Result<Self, String> {
        match raw.scalar()? {
            "" => Err("takes a text that is not empty".to_owned()),
            text => Ok(Some(text.to_owned())),
        }
    }

    fn show(&self) -> String {
        self.as_ref().map_or_else(String::new, quoted)
    }
}

impl Value for Option<SocketAddr> {
    fn parse(raw: &Raw) -> Result<Self, String> {
        let text = raw.scalar()?;
        let wrong = || format!("takes an address and a port, such as \"127.0.0.1:4317\", not `{text}`");
        text.parse().map(Some).map_err(|_| wrong())
    }

    fn show(&self) -> String {
        self.as_ref().map_or_else(String::new, quoted)
    }
}

impl<T: Item> Value for Vec<T> {
    fn parse(raw: &Raw) -> Result<Self, String> {
        raw.items().iter().map(|item| T::parse_item(item)).collect()
    }

    fn show(&self) -> String {
        let items: Vec<_> = self.iter().map(quoted).collect();
        format!("[{}]", items.join(", "))
    }
}

/// A type that a list can hold.
pub(super) trait Item: Sized + fmt::Display {
    fn parse_item(text: &str) -> Result<Self, String>;
}

impl Item for String {
    fn parse_item(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

/// A process to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watch {
    /// The process with this id.
    Pid(u32),
    /// Every process whose command has this name.
    Name(String),
}

impl fmt::Display for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pid(pid) => write!(f, "{pid}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl Item for Watch {
    fn parse_item(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(0) => Err("takes process ids from 1, or names".to_owned()),
            Ok(pid) => Ok(Self::Pid(pid)),
            Err(_) => Ok(Self::Name(text.to_owned())),
        }
    }
}

/// Permissions of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketMode(pub u32);

impl SocketMode {
    /// Owner and group; the group is `perfwatch` where there is one.
    pub const DEFAULT: Self = Self(0o660);
}

impl Value for SocketMode {
    fn parse(raw: &Raw) -> Result<Self, String> {
        let wrong = |text: &str| format!("takes an octal mode between \"0600\" and \"0777\", not {text}");
        // TOML reads a bare 660 as decimal; who wrote that meant octal, so say so instead of granting 01224.
        let Raw::Text(text) = raw else { return Err(wrong("a number: write it in quotes")) };
        let digits = text.trim().trim_start_matches("0o");
        match u32::from_str_radix(digits, 8) {
            Ok(mode) if mode & 0o600 == 0o600 && mode <= 0o777 => Ok(Self(mode)),
            _ => Err(wrong(&format!("`{text}`"))),
        }
    }

    fn show(&self) -> String {
        quoted(format_args!("{:04o}", self.0))
    }
}

/// A share: of one core, or of all requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share(pub f64);

impl Share {
    /// One percent of a core: invisible beside any model server.
    pub const BUDGET: Self = Self(0.01);
}

impl Value for Share {
    fn parse(raw: &Raw) -> Result<Self, String> {
        let text = raw.scalar()?;
        let share = match text.strip_suffix('%') {
            Some(percent) => percent.trim().parse::<f64>().map(|percent| percent / 100.0),
            None => text.parse(),
        };
        match share {
            Ok(share) if share > 0.0 && share <= 1.0 => Ok(Self(share)),
            _ => Err(format!("takes a share of one core above 0, up to 1 (or \"1%\"), not `{text}`")),
        }
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}

impl Value for Option<Share> {
    fn parse(raw: &Raw) -> Result<Self, String> {
        let wrong = |_| "takes a share above 0, up to 1 (or \"10%\")".to_owned();
        Share::parse(raw).map(Some).map_err(wrong)
    }

    fn show(&self) -> String {
        self.as_ref().map_or_else(String::new, Share::show)
    }
}

/// A length of time, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Age(pub u64);

impl Age {
    const UNITS: [(&'static str, u64); 4] = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
}

impl Value for Age {
    fn parse(raw: &Raw) -> Result<Self, String> {
        let text = raw.scalar()?;
        let unit = Self::UNITS.iter().find_map(|(unit, worth)| Some((text.strip_suffix(unit)?.trim(), *worth)));
        let seconds = unit.and_then(|(number, worth)| number.parse::<u64>().ok()?.checked_mul(worth));
        match seconds {
            // More ticks than that have no numbers.
            Some(seconds) if (60..=1 << 40).contains(&seconds) => Ok(Self(seconds)),
            _ => Err(format!("takes a time from \"60s\", such as \"24h\" or \"7d\", not `{text}`")),
        }
    }

    fn show(&self) -> String {
        let (unit, worth) =
            Self::UNITS.into_iter().find(|(_, worth)| self.0.is_multiple_of(*worth)).unwrap_or(("s", 1));
        quoted(format_args!("{}{unit}", self.0 / worth))
    }
}

/// An amount of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl Size {
    /// More than a day of one second's history on most machines.
    pub const JOURNAL: Self = Self(512_000_000);
    /// More than a day of requests at the default level of detail.
    pub const OUTBOX: Self = Self(64_000_000);
    const UNITS: [(&'static str, u64); 6] =
        [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("GB", 1_000_000_000), ("MB", 1_000_000), ("KB", 1_000)];
}

impl Value for Size {
    fn parse(raw: &Raw) -> Result<Self, String> {
        let text = raw.scalar()?;
        let unit = Self::UNITS.iter().find_map(|(unit, worth)| Some((text.strip_suffix(unit)?.trim(), *worth)));
        let (number, worth) = unit.unwrap_or((text, 1));
        match number.parse::<u64>().ok().and_then(|number| number.checked_mul(worth)) {
            Some(bytes) if bytes >= 16_000_000 => Ok(Self(bytes)),
            _ => Err(format!(
                "takes a size from \"16MB\", such as \"512MB\", \"2GiB\" or a number of bytes, not `{text}`"
            )),
        }
    }

    fn show(&self) -> String {
        let unit = Self::UNITS.iter().find(|(_, worth)| self.0.is_multiple_of(*worth));
        match unit {
            Some((unit, worth)) => quoted(format_args!("{}{unit}", self.0 / worth)),
            None => self.0.to_string(),
        }
    }
}

macro_rules! choice {
    ($(#[doc = $doc:literal])+ $name:ident { $( $(#[doc = $item_doc:literal])+ $item:ident = $text:literal, )+ }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $( $(#[doc = $item_doc])+ $item, )+
        }

        impl $name {
            /// The word that chooses it.
            pub const fn name(self) -> &'static str {
                match self { $( Self::$item => $text, )+ }
            }
        }

        impl Value for $name {
            fn parse(raw: &Raw) -> Result<Self, String> {
                match raw.scalar()? {
                    $( $text => Ok(Self::$item), )+
                    other => Err(format!("takes {}, not `{other}`", [$($text),+].join(", "))),
                }
            }

            fn show(&self) -> String {
                quoted(self.name())
            }
        }
    };
}

choice! {
    /// Transport of OTLP.
    OtlpProtocol {
        /// gRPC.
        Grpc = "grpc",
        /// Protobuf over HTTP/1.1.
        HttpProtobuf = "http/protobuf",
    }
}

choice! {
    /// From where an address may be reached.
    Reach {
        /// From this machine alone.
        Loopback = "loopback",
        /// From everywhere.
        Network = "network",
    }
}

choice! {
    /// Where history is kept.
    JournalMode {
        /// In the journal, as far as the disk takes it.
        Disk = "disk",
        /// In memory: it ends with the agent.
        Memory = "memory",
    }
}

choice! {
    /// Which rules judge.
    Rules {
        /// Those that an injected fault or a recording has proven.
        Proven = "proven",
        /// Experimental ones too.
        All = "all",
    }
}

choice! {
    /// How much is exported.
    Detail {
        /// What dashboards and alerts need.
        Default = "default",
        /// Every series.
        Full = "full",
    }
}

choice! {
    /// Least severe message that is logged.
    LogLevel {
        /// What stops a part of the agent.
        Error = "error",
        /// What it works around.
        Warn = "warn",
        /// What it does.
        Info = "info",
        /// How it does it.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

choice! {
    /// Form of the log.
    LogFormat {
        /// For people.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}

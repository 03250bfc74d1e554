//! What a configuration accepts, what it refuses, and in which words.

use std::path::{Path, PathBuf};

use perfwatch_agent::config::{KEYS, OtlpProtocol, Watch};
use perfwatch_agent::{Config, ConfigError, Environment, Flags};

fn environment(set: &[(&str, &str)]) -> Environment {
    set.iter().map(|(name, value)| (*name, *value)).collect()
}

fn flags(values: &[(&str, &str)]) -> Flags {
    let values = values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Flags { file: None, values }
}

fn file(dir: &Path, text: &str) -> PathBuf {
    let path = dir.join("perfwatch.toml");
    std::fs::write(&path, text).expect("a fresh folder is writable");
    path
}

fn load(text: &str) -> Result<Config, ConfigError> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    Config::load(&Flags { file: Some(file(dir.path(), text)), values: Vec::new() }, Environment::default())
}

/// The message without the folder, and the hint.
fn refusal(text: &str) -> (String, Option<String>) {
    let error = load(text).expect_err("refused");
    let message = error.to_string();
    (message.rsplit_once('/').map_or(message.clone(), |(_, rest)| rest.to_owned()), error.hint())
}

#[test]
fn a_flag_wins_over_the_variable_and_the_variable_over_the_file() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = file(dir.path(), "budget = 0.5\nsocket_mode = \"0600\"\n\n[otlp]\nendpoint = \"http://file:1\"\n");
    let flags = Flags { file: Some(path.clone()), ..flags(&[("budget", "3%")]) };
    let environment = environment(&[("PERFWATCH_BUDGET", "0.2"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://variable:1")]);
    let config = Config::load(&flags, environment).expect("valid");
    let origin = |key: &str| {
        let line = config.describe().into_iter().find(|line| line.key == key).expect("the key exists");
        (line.toml, line.origin)
    };
    assert_eq!(origin("budget"), ("0.03".to_owned(), "flag".to_owned()));
    assert_eq!(origin("socket_mode"), ("\"0600\"".to_owned(), format!("{}:2", path.display())));
    assert_eq!(
        origin("otlp.endpoint"),
        ("\"http://variable:1\"".to_owned(), "$OTEL_EXPORTER_OTLP_ENDPOINT".to_owned())
    );
    assert_eq!(origin("otlp.protocol"), ("\"http/protobuf\"".to_owned(), "default".to_owned()));
    assert_eq!(config.file(), Some(path.as_path()));
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_nearest_one() {
    let (message, hint) = refusal("budget = 0.01\n\nsoket_mode = \"0660\"\n");
    assert_eq!(message, "perfwatch.toml:3: unknown key `soket_mode`");
    assert_eq!(hint, Some(format!("did you mean `socket_mode`? `perfwatch config` lists all {}", KEYS.len())));

    let (message, hint) = refusal("[otlp]\nendpiont = \"http://a:1\"\n");
    assert_eq!(message, "perfwatch.toml:2: unknown key `otlp.endpiont`");
    assert_eq!(hint, Some(format!("did you mean `otlp.endpoint`? `perfwatch config` lists all {}", KEYS.len())));

    let (message, hint) = refusal("zebra = 1\n");
    assert_eq!(message, "perfwatch.toml:1: unknown key `zebra`");
    assert_eq!(hint, Some(format!("`perfwatch config` lists all {} keys", KEYS.len())));
}

#[test]
fn a_value_that_its_key_does_not_take_is_refused_with_what_it_takes() {
    for (text, message) in [
        ("budget = 2", "perfwatch.toml:1: `budget` takes a share of one core above 0, up to 1 (or \"1%\"), not `2`"),
        (
            "socket_mode = 660",
            "perfwatch.toml:1: `socket_mode` takes an octal mode between \"0600\" and \"0777\", not a number: write it in quotes",
        ),
        (
            "socket_mode = \"0999\"",
            "perfwatch.toml:1: `socket_mode` takes an octal mode between \"0600\" and \"0777\", not `0999`",
        ),
        ("[log]\nlevel = \"loud\"", "perfwatch.toml:2: `log.level` takes error, warn, info, debug, trace, not `loud`"),
        ("[otlp]\nprotocol = [\"grpc\"]", "perfwatch.toml:2: `otlp.protocol` takes one value, not a list"),
        ("watch = [\"0\"]", "perfwatch.toml:1: `watch` takes process ids from 1, or names"),
        ("watch = [[\"a\"]]", "perfwatch.toml:1: `watch` takes a text, a number or a list of texts"),
    ] {
        assert_eq!(refusal(text).0, message, "for {text}");
    }
    let error = Config::load(&Flags::default(), environment(&[("PERFWATCH_BUDGET", "lots")])).expect_err("refused");
    assert_eq!(
        error.to_string(),
        "$PERFWATCH_BUDGET: `budget` takes a share of one core above 0, up to 1 (or \"1%\"), not `lots`"
    );
    let error = Config::load(&flags(&[("log.format", "xml")]), Environment::default()).expect_err("refused");
    assert_eq!(error.to_string(), "--log-format: `log.format` takes text, json, not `xml`");
}

#[test]
fn text_that_is_not_toml_is_refused_with_its_line() {
    let (message, _) = refusal("budget = 0.01\nwatch = = 3\n");
    assert_eq!(message, "perfwatch.toml:2: not valid TOML: extra `=`, expected nothing");
}

#[test]
fn a_missing_default_file_is_fine_and_a_missing_named_one_is_not() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let home = environment(&[("XDG_CONFIG_HOME", dir.path().to_str().expect("a plain path"))]);
    let config = Config::load(&Flags::default(), home).expect("no file is fine");
    assert_eq!(config.file(), None);

    let missing = dir.path().join("none.toml");
    let error = Config::load(&Flags { file: Some(missing.clone()), values: Vec::new() }, Environment::default());
    let error = error.expect_err("a named file must exist");
    let expected =
        format!("cannot read the configuration file {}: No such file or directory (os error 2)", missing.display());
    assert_eq!(error.to_string(), expected);
}

#[test]
fn lists_come_from_files_variables_and_repeated_flags_alike() {
    let wanted = [Watch::Pid(4711), Watch::Name("llama-server".to_owned())];
    assert_eq!(load("watch = [4711, \"llama-server\"]").expect("valid").settings.watch, wanted);
    let variable = environment(&[("PERFWATCH_WATCH", "4711, llama-server")]);
    assert_eq!(Config::load(&Flags::default(), variable).expect("valid").settings.watch, wanted);
    let repeated = flags(&[("watch", "4711"), ("watch", "llama-server")]);
    assert_eq!(Config::load(&repeated, Environment::default()).expect("valid").settings.watch, wanted);
}

#[test]
fn the_default_file_is_valid_and_says_what_the_defaults_are() {
    let text = Config::default_text();
    assert_eq!(load(&text).expect("commented out").settings, Config::default().settings);
    // A line `#key = value` is a setting; prose has a space after its #.
    let uncommented: String = text
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let config = load(&uncommented).expect("every setting of the default file is valid");
    assert_eq!(config.settings.otlp_protocol, OtlpProtocol::HttpProtobuf);
    assert_eq!(config.describe().iter().filter(|line| line.origin == "default").count(), 0, "every key is in the file");
}

#[test]
fn credentials_in_an_endpoint_are_used_and_not_shown() {
    let flags = flags(&[("otlp.endpoint", "http://me:s3cret@collector:4318/v1")]);
    let config = Config::load(&flags, Environment::default()).expect("valid");
    let shown = config.describe().into_iter().find(|line| line.key == "otlp.endpoint").expect("the key exists").toml;
    assert_eq!(shown, "\"http://[redacted]@collector:4318/v1\"");
    assert_eq!(config.settings.otlp_endpoint.as_deref(), Some("http://me:s3cret@collector:4318/v1"));
}

#[test]
fn the_environment_keeps_no_foreign_secrets_and_shows_no_values() {
    let environment =
        environment(&[("AWS_SECRET_ACCESS_KEY", "s3cret"), ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=t0ken")]);
    assert_eq!(environment.get("AWS_SECRET_ACCESS_KEY"), None);
    let shown = format!("{environment:?}");
    assert!(shown.contains("OTEL_EXPORTER_OTLP_HEADERS") && !shown.contains("t0ken"), "{shown}");
}

#[test]
fn the_cap_of_the_journal_is_a_size_with_a_unit_and_large_enough_to_be_of_use() {
    let cap = |text: &str| load(&format!("[journal]\ncap = {text}\n")).map(|config| config.settings.journal_cap.0);
    assert_eq!(cap("\"64MiB\"").expect("a size"), 64 << 20);
    assert_eq!(cap("\"2 GB\"").expect("a size"), 2_000_000_000);
    assert_eq!(cap("16000000").expect("bytes"), 16_000_000);
    let (message, _) = refusal("[journal]\ncap = \"1MB\"\n");
    let words = "takes a size from \"16MB\", such as \"512MB\", \"2GiB\" or a number of bytes, not `1MB`";
    assert_eq!(message, format!("perfwatch.toml:2: `journal.cap` {words}"));
}

#[test]
fn how_long_history_is_kept_is_a_time_with_a_unit() {
    let keep = |text: &str| load(&format!("[journal]\nkeep = {text}\n")).map(|config| config.settings.journal_keep.0);
    assert_eq!(keep("\"36h\"").expect("a time"), 129_600);
    assert_eq!(keep("\"2 d\"").expect("a time"), 172_800);
    assert_eq!(keep("\"90s\"").expect("a time"), 90);
    for wrong in ["10s", "1y", "", "-1h", "99999999999999999999d", "24"] {
        let (message, _) = refusal(&format!("[journal]\nkeep_minutes = \"{wrong}\"\n"));
        let words = format!("takes a time from \"60s\", such as \"24h\" or \"7d\", not `{wrong}`");
        assert_eq!(message, format!("perfwatch.toml:2: `journal.keep_minutes` {words}"));
    }
}

#[test]
fn no_form_of_a_secret_in_an_endpoint_is_described() {
    for (given, shown) in [
        ("http://u:pa/ss@host:4318", "\"http://[redacted]@host:4318\""),
        ("http://u:p@ss@host", "\"http://[redacted]@host\""),
        ("http://host/v1?token=abc", "\"http://host/v1?token=[redacted]\""),
        ("http://host/v1?x=1&access_token=abc", "\"http://host/v1?x=1&access_token=[redacted]\""),
        ("http://host:4318/v1", "\"http://host:4318/v1\""),
        ("http://host/\u{202e}", "\"http://host/\\u{202e}\""),
    ] {
        let flags = Flags { values: vec![("otlp.endpoint".to_owned(), given.to_owned())], ..Flags::default() };
        let config = Config::load(&flags, Environment::default()).expect("an endpoint is any text");
        let line = config.describe().into_iter().find(|line| line.key == "otlp.endpoint").expect("the key exists");
        assert_eq!(line.toml, shown, "{given}");
    }
}

#[test]
fn what_is_open_to_the_network_must_be_meant_to_be() {
    for (key, reach) in
        [("metrics.listen", "metrics.reach"), ("intake.grpc", "intake.reach"), ("intake.http", "intake.reach")]
    {
        let check = |address: &str, reached: &str| {
            let set = flags(&[(key, address), (reach, reached)]);
            Config::load(&set, Environment::default()).expect("each value is fine").check()
        };
        let refused = check("0.0.0.0:9464", "loopback").expect_err("open to everybody").to_string();
        assert!(refused.contains(key) && refused.contains("loopback") && refused.contains(reach), "{refused}");
        for (address, reached) in [("0.0.0.0:9464", "network"), ("127.0.0.1:9464", "loopback"), ("[::1]:0", "loopback")]
        {
            assert!(check(address, reached).is_ok(), "{key} {address} {reached}");
        }
    }
}

#[test]
fn a_journal_is_not_written_into_a_file_of_something_else() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let notes = dir.path().join("notes.txt");
    let check = |path: &Path| {
        let set = flags(&[("journal.path", path.to_str().expect("text"))]);
        Config::load(&set, Environment::default()).expect("any path is a value").check_journal()
    };
    assert!(check(&notes).is_ok(), "it is not there yet");
    std::fs::write(&notes, "buy milk").expect("writable");
    let refused = check(&notes).expect_err("no journal").to_string();
    assert!(refused.contains("notes.txt") && refused.contains("no journal"), "{refused}");
}

//! `perfwatch.proto` is the specification; `src/message.rs` must say the same.

use std::collections::BTreeMap;

/// Message → its fields as (tag, name, type as prost writes it).
type Messages = BTreeMap<String, Vec<(u32, String, String)>>;

fn from_proto(text: &str) -> Messages {
    let mut messages = Messages::new();
    let mut current = String::new();
    for line in text.lines() {
        let code = line.split("//").next().unwrap_or_default().trim();
        if let Some(name) = code.strip_prefix("message ") {
            name.trim_end_matches('{').trim().clone_into(&mut current);
            messages.entry(current.clone()).or_default();
        } else if let Some((left, right)) = code.split_once('=').filter(|_| !code.starts_with("syntax")) {
            let tag = right.trim().trim_end_matches(';').parse().expect("a field number");
            let words: Vec<&str> = left.split_whitespace().collect();
            let (label, kind, name) = match words[..] {
                [label, kind, name] => (Some(label), kind, name),
                [kind, name] => (None, kind, name),
                _ => panic!("cannot read `{line}`"),
            };
            let scalar = ["bool", "uint32", "uint64", "string", "bytes"].contains(&kind);
            let mut written = if scalar { kind.to_owned() } else { format!("message {kind}") };
            if let Some(label) = label {
                written = format!("{label} {written}");
            }
            messages.get_mut(&current).expect("inside a message").push((tag, name.to_owned(), written));
        }
    }
    messages
}

fn from_rust(text: &str) -> Messages {
    let mut messages = Messages::new();
    let mut current = String::new();
    let mut attribute: Option<String> = None;
    let mut in_body = false;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("pub mod ") {
            current = match name.trim_end_matches(" {") {
                "client_message" => "ClientMessage".into(),
                "agent_message" => "AgentMessage".into(),
                other => panic!("unknown module {other}"),
            };
            in_body = true;
        } else if let Some(name) = line.strip_prefix("pub struct ") {
            name.trim_end_matches(" {").clone_into(&mut current);
            in_body = false;
            messages.entry(current.clone()).or_default();
        } else if let Some(inner) = line.strip_prefix("#[prost(") {
            attribute = Some(inner.trim_end_matches(")]").to_owned()).filter(|inner| !inner.starts_with("oneof"));
        } else if let Some(inner) = attribute.take() {
            let tag = inner.rsplit('"').nth(1).and_then(|tag| tag.parse().ok()).expect("a tag");
            let kind = inner.split([',', ' ']).next().expect("a type").to_owned();
            let (name, rust) = if in_body {
                let (name, rest) = line.split_once('(').expect("a variant");
                (name.to_lowercase(), rest.trim_end_matches("),").replace("super::", ""))
            } else {
                let (name, rest) = line.trim_start_matches("pub ").split_once(": ").expect("a field");
                (name.to_owned(), rest.trim_end_matches(',').to_owned())
            };
            let inner_type = rust.trim_start_matches("Vec<").trim_start_matches("Option<").trim_end_matches('>');
            let mut written = if kind == "message" { format!("message {inner_type}") } else { kind };
            if inner.contains("repeated") {
                written = format!("repeated {written}");
            } else if inner.contains("optional") {
                written = format!("optional {written}");
            }
            messages.get_mut(&current).expect("inside a struct").push((tag, name, written));
        }
    }
    messages
}

#[test]
fn the_rust_types_say_what_the_specification_says() {
    let specified = from_proto(perfwatch_wire::PROTO);
    let written = from_rust(include_str!("../src/message.rs"));
    assert_eq!(specified.len(), 16, "the comparison must not pass by reading nothing");
    assert_eq!(specified, written);
}

#[test]
fn every_field_of_the_specification_is_described() {
    for line in perfwatch_wire::PROTO.lines().filter(|line| line.starts_with("  ") && line.contains(" = ")) {
        let in_oneof = line.starts_with("    ");
        assert!(in_oneof || line.contains("; ") && line.contains("// "), "undescribed: {line}");
    }
}

#[test]
fn the_limits_in_the_specification_are_the_limits_in_the_code() {
    use perfwatch_wire::limits::{
        MAX_ERRORS, MAX_MESSAGE, MAX_MESSAGES_PER_SECOND, MAX_NAME, MAX_SERIES, MAX_SLOTS, MAX_SLOW, MAX_TEXT,
    };
    assert_eq!((MAX_MESSAGE, MAX_SERIES, MAX_MESSAGES_PER_SECOND), (1 << 20, 256, 20));
    for words in ["1 MiB per message", "256 histograms per Flush", "20 messages per second"] {
        assert!(perfwatch_wire::PROTO.contains(words), "{words}");
    }
    assert_eq!((MAX_NAME, MAX_TEXT), (128, 4096));
    assert_eq!((MAX_SLOTS, MAX_ERRORS, MAX_SLOW), (64, 64, 64));
}

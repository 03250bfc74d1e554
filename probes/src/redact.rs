//! Secrets in other processes' command lines, blotted out where they are read.
//!
//! Command lines go to screens, dashboards and tickets, so the doubt is decided against showing: what follows a word that
//! names a secret is hidden, even where that hides a harmless value too. What is found by form: values of options,
//! assignments and JSON members whose name names a secret; HTTP headers that authorise; credentials in URLs; tokens whose
//! form their issuer makes recognisable. A bare positional secret has no such sign and stays.

use perfwatch_model::printable;

/// What stands in place of a secret.
pub const REDACTED: &str = "[redacted]";

/// Parts of a name that make it a secret's, wherever they occur in it.
const INSIDE: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "secret",
    "credential",
    "apikey",
    "accesskey",
    "privatekey",
    "authkey",
    "authorization",
    "cookie",
];
/// Whole words of a name that do. `tokens` is not one: `--max-tokens` is every model server's.
const WORDS: &[&str] = &["key", "keys", "token", "auth", "pass", "pwd", "pw", "pat", "bearer", "jwt", "creds", "sas"];
/// Beginnings of tokens that are recognisable by themselves, and how long such a token is at least.
const ISSUED: &[(&str, usize)] = &[
    ("sk-", 16),
    ("hf_", 16),
    ("ghp_", 16),
    ("gho_", 16),
    ("ghs_", 16),
    ("ghu_", 16),
    ("github_pat_", 16),
    ("glpat-", 16),
    ("xoxb-", 16),
    ("xoxp-", 16),
    ("nvapi-", 16),
    ("AKIA", 20),
    ("ASIA", 20),
    ("AIza", 30),
    ("eyJ", 30),
    ("ya29.", 20),
    ("gsk_", 16),
    ("r8_", 16),
    ("dckr_pat_", 16),
    ("npm_", 16),
    ("pypi-", 16),
];

/// A command line as `/proc/pid/cmdline` holds it (arguments ended by NUL), printable and without the secrets.
pub fn command_line(bytes: &[u8]) -> String {
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    let mut line = String::with_capacity(bytes.len());
    let mut hide_next = Next::Show;
    for (at, argument) in bytes.split(|byte| *byte == 0).enumerate() {
        if at > 0 {
            line.push(' ');
        }
        let argument = printable(argument);
        hide_next = match hide_next {
            Next::Hide => {
                line.push_str(REDACTED);
                Next::Show
            }
            Next::User => {
                line.push_str(argument.split_once(':').map_or(REDACTED, |(user, _)| user));
                line.push_str(if argument.contains(':') { ":[redacted]" } else { "" });
                Next::Show
            }
            Next::Show => redact_argument(&argument, &mut line),
        };
    }
    line
}

/// Any one text (an URL, a header, an assignment) without the secrets that its form tells, printable. A harmless text stays
/// as it is.
pub fn text(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    redact_argument(&printable(text.as_bytes()), &mut shown);
    shown
}

/// The value that stands beside a name, printable and without the secrets that the name or its own form tells.
pub fn value(name: &str, value: &str) -> String {
    // As an assignment of something harmless the name alone decides.
    let assignment = printable(format!("{name}=x").as_bytes());
    if text(&assignment) == assignment { text(value) } else { REDACTED.to_owned() }
}

/// What the word before says about the next one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Show,
    Hide,
    /// `user:password`, as curl takes it.
    User,
}

/// One argument, which may be a whole script (`sh -c "…"`), a header or JSON.
fn redact_argument(argument: &str, line: &mut String) -> Next {
    let mut next = Next::Show;
    let mut rest = argument;
    while !rest.is_empty() {
        let word_at = rest.find(|c: char| !c.is_whitespace()).unwrap_or(rest.len());
        line.push_str(&rest[..word_at]);
        rest = &rest[word_at..];
        let (word, after) = rest.split_at(word_end(rest));
        rest = after;
        if word.is_empty() {
            break;
        }
        match next {
            Next::Show => match redact_word(word, line) {
                // A header's or a JSON member's value may have blanks in it; it ends with the argument at the latest.
                Word::NamesRest if !rest.trim().is_empty() => {
                    line.push(' ');
                    line.push_str(REDACTED);
                    return Next::Show;
                }
                Word::NamesNext | Word::NamesRest => next = Next::Hide,
                Word::NamesUser => next = Next::User,
                Word::Done => {}
            },
            Next::Hide | Next::User => {
                line.push_str(REDACTED);
                next = Next::Show;
            }
        }
    }
    next
}

/// Where the first word ends: at a blank outside quotes. A quote that is not closed reaches to the end.
fn word_end(text: &str) -> usize {
    let mut quote = None;
    for (at, character) in text.char_indices() {
        match quote {
            Some(open) if character == open => quote = None,
            None if character == '"' || character == '\'' => quote = Some(character),
            None if character.is_whitespace() => return at,
            Some(_) | None => {}
        }
    }
    text.len()
}

enum Word {
    Done,
    /// An option whose value is the next word or argument.
    NamesNext,
    /// A name with a colon at the end: the rest of the argument is its value.
    NamesRest,
    NamesUser,
}

fn redact_word(word: &str, line: &mut String) -> Word {
    // `name=value`, `"name":"value"`, `?name=value`: the value reaches to the end of the word, whatever is in it.
    for (at, separator) in word.char_indices().filter(|(_, c)| matches!(c, '=' | ':')) {
        let (before, value) = (&word[..at], &word[at + 1..]);
        if names_secret(last_name(before)) {
            line.push_str(&without_user_info(before));
            line.push(separator);
            if value.is_empty() && separator == ':' {
                return Word::NamesRest;
            }
            line.push_str(REDACTED);
            return Word::Done;
        }
    }
    let bare = word.trim_matches(['"', '\'']);
    if bare.eq_ignore_ascii_case("bearer") || bare.eq_ignore_ascii_case("basic") {
        line.push_str(word);
        return Word::NamesNext;
    }
    if matches!(bare, "-u" | "--user" | "--proxy-user") {
        line.push_str(word);
        return Word::NamesUser;
    }
    if bare.starts_with('-') && names_secret(bare) {
        line.push_str(word);
        return Word::NamesNext;
    }
    let shown = without_user_info(word);
    line.push_str(&without_issued_tokens(&shown));
    Word::Done
}

/// The name at the end of a text that stands before `=` or `:`.
fn last_name(text: &str) -> &str {
    let text = text.trim_end_matches(['"', '\'', '\\']);
    let start = text
        .char_indices()
        .rev()
        .take_while(|(_, c)| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
        .last()
        .map_or(text.len(), |(at, _)| at);
    &text[start..]
}

fn names_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let solid: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    let mut words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    INSIDE.iter().any(|part| solid.contains(part))
        || solid.ends_with("token")
        || words.any(|word| WORDS.contains(&word))
        || (solid.ends_with("tokens") && ["api", "auth", "access"].iter().any(|part| solid.contains(part)))
}

/// `scheme://user:password@host` without what stands before the `@`. A password that was not encoded may hold slashes and
/// `@`s and look like a port, so wherever there may be one, everything up to the last `@` goes.
fn without_user_info(word: &str) -> String {
    let Some(scheme_end) = word.find("://") else { return word.to_owned() };
    let (scheme, rest) = word.split_at(scheme_end + 3);
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    match rest.rfind('@') {
        Some(at) if authority.contains(['@', ':']) => format!("{scheme}{REDACTED}{}", &rest[at..]),
        _ => word.to_owned(),
    }
}

/// Hides a token from its telling beginning to the next character that no issuer uses.
fn without_issued_tokens(word: &str) -> String {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let is_token = |c: char| is_name(c) || matches!(c, '.' | '+' | '/' | '=' | '~');
    let mut text = String::with_capacity(word.len());
    let mut rest = word;
    while !rest.is_empty() {
        let token = rest.find(|c: char| !is_token(c)).unwrap_or(rest.len());
        let issued = ISSUED.iter().any(|(prefix, least)| rest.starts_with(prefix) && token >= *least);
        // Past this token, or past this name and what separates it from the next.
        let end = if issued {
            text.push_str(REDACTED);
            token
        } else {
            let name = rest.find(|c: char| !is_name(c)).unwrap_or(rest.len());
            let end = rest[name..].find(is_name).map_or(rest.len(), |gap| name + gap);
            text.push_str(&rest[..end]);
            end
        };
        rest = &rest[end..];
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(arguments: &[&str]) -> String {
        command_line((arguments.join("\0") + "\0").as_bytes())
    }

    #[test]
    fn a_value_is_hidden_by_its_name_or_by_its_own_form() {
        for (name, given, shown) in [
            ("max_batch", "8", "8"),
            ("model", "meta/llama 3", "meta/llama 3"),
            ("max_tokens", "512", "512"),
            ("api_key", "abc", REDACTED),
            ("hf-token", "a b c", REDACTED),
            ("upstream", "https://me:abc@host/v1", "https://[redacted]@host/v1"),
            ("", "x", "x"),
        ] {
            assert_eq!(value(name, given), shown, "{name}");
        }
    }

    #[test]
    fn a_model_servers_ordinary_command_line_stays_as_it_is() {
        for line in [
            "/usr/bin/python3 -m vllm.entrypoints.openai.api_server --model meta/llama --max-tokens 512 --port 8000",
            "tritonserver --model-repository=/models --http-port=8000 --grpc-port 8001",
            "llama-server -m /m/q4.gguf -c 4096 --host 127.0.0.1 --max-num-batched-tokens 8192 --tokenizer hf",
            "curl http://127.0.0.1:8000/v1/models?verbose=1 -o /dev/null",
            "ssh -p 22 host",
            "pip install https://host/@scope/package@1.0",
        ] {
            assert_eq!(shown(&line.split(' ').collect::<Vec<_>>()), line);
        }
        assert_eq!(command_line(b""), "");
    }

    #[test]
    fn secrets_are_hidden_and_their_names_stay() {
        assert_eq!(shown(&["serve", "--api-key", "abc", "--port", "1"]), "serve --api-key [redacted] --port 1");
        assert_eq!(shown(&["serve", "--api-key=abc"]), "serve --api-key=[redacted]");
        assert_eq!(shown(&["env", "HF_TOKEN=abc", "serve"]), "env HF_TOKEN=[redacted] serve");
        assert_eq!(shown(&["curl", "-H", "Authorization: Bearer abc def"]), "curl -H Authorization: [redacted]");
        assert_eq!(shown(&["x", "postgres://me:abc@db/x"]), "x postgres://[redacted]@db/x");
        assert_eq!(shown(&["curl", "-u", "me:abc"]), "curl -u me:[redacted]");
        assert_eq!(shown(&["sh", "-c", "serve --token 'a b' --port 1"]), "sh -c serve --token [redacted] --port 1");
    }

    /// Every way a secret is usually passed.
    fn carriers(secret: &str) -> Vec<Vec<String>> {
        let lines: &[&[&str]] = &[
            &["serve", "--api-key", "@"],
            &["serve", "--api-key=@"],
            &["serve", "--apiKey", "@"],
            &["serve", "--hf-token", "@", "--port", "1"],
            &["serve", "-password", "@"],
            &["serve", "--secret=@"],
            &["java", "-Ddb.password=@"],
            &["env", "AWS_SECRET_ACCESS_KEY=@", "serve"],
            &["env", "OPENAI_API_KEY=@", "serve"],
            &["curl", "-H", "Authorization: Bearer @"],
            &["curl", "-HX-Api-Key: @"],
            &["curl", "--header", "authorization:@"],
            &["curl", "-H", "Bearer @"],
            &["curl", "-u", "user:@"],
            &["x", "redis://:@@host:6379/0"],
            &["x", "https://user:@@host/path?x=1"],
            &["x", "https://host/path?x=1&access_token=@&y=2"],
            &["x", "--json", "{\"api_key\":\"@\",\"a\":1}"],
            &["x", "--json", "{\"api_key\": \"@\", \"a\": 1}"],
            &["sh", "-c", "export API_KEY=@; serve --port 1"],
            &["sh", "-c", "serve --token \"@\" --port 1"],
            &["sh", "-c", "curl -H 'Authorization: Bearer @' host"],
            &["bash", "-c", "PASSWORD='@' serve"],
            &["x", "sk-@"],
            &["x", "--option", "hf_@"],
        ];
        lines.iter().map(|line| line.iter().map(|word| word.replacen('@', secret, 1)).collect()).collect()
    }

    proptest! {
        #[test]
        fn no_carrier_lets_a_secret_through(secret in "[A-Za-z0-9+/_-]{16,40}") {
            for line in carriers(&secret) {
                let words: Vec<&str> = line.iter().map(String::as_str).collect();
                let shown = shown(&words);
                prop_assert!(!shown.contains(&secret), "{:?} is shown as {}", words, shown);
            }
        }

        #[test]
        fn arguments_with_blanks_are_hidden_whole(secret in "[ -~]{1,30}") {
            let line = shown(&["serve", "--password", &secret, "--port"]);
            prop_assert_eq!(line, "serve --password [redacted] --port");
        }

        #[test]
        fn any_bytes_come_out_printable(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(!command_line(&bytes).chars().any(char::is_control));
        }
    }
}

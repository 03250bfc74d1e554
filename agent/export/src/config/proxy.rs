//! Proxies, from the variables that every program understands: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`, each
//! also in small letters, which win as they do in curl.

use std::fmt;
use std::net::IpAddr;

use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};

use super::ConfigError;
use super::error::Lookup;

/// What the environment says about proxies.
pub(super) struct Proxies {
    https: Option<(String, String)>,
    http: Option<(String, String)>,
    all: Option<(String, String)>,
    except: String,
}

impl Proxies {
    pub(super) fn from_lookup(lookup: &Lookup<'_>) -> Self {
        let either = |name: &str| lookup.first([name.to_ascii_lowercase(), name.to_owned()]);
        Self {
            https: either("HTTPS_PROXY"),
            // In a CGI program it is a request's `Proxy:` header that sets the one in capitals.
            http: match lookup.get("REQUEST_METHOD") {
                Some(_) => lookup.get("http_proxy").map(|value| ("http_proxy".to_owned(), value)),
                None => either("HTTP_PROXY"),
            },
            all: either("ALL_PROXY"),
            except: either("NO_PROXY").map(|(_, value)| value).unwrap_or_default(),
        }
    }

    /// The proxy on the way to a URL; `None` for this machine, for what `NO_PROXY` names, and without one.
    pub(super) fn on_the_way_to(&self, url: &str) -> Result<Option<Proxy>, ConfigError> {
        let Ok(uri) = url.parse::<Uri>() else { return Ok(None) };
        let own = if uri.scheme_str() == Some("https") { &self.https } else { &self.http };
        let Some((variable, value)) = own.as_ref().or(self.all.as_ref()) else { return Ok(None) };
        let asked = Matcher::builder().all(value.as_str());
        let (asked, anyway) = (asked.no(self.except.as_str()).build(), Matcher::builder().all(value.as_str()).build());
        // A proxy reaches its own machine under this name, not ours.
        if uri.host().is_none_or(is_this_machine) {
            return Ok(None);
        }
        if anyway.intercept(&uri).is_none() {
            let hint = "give one as http://host:port, https://…, socks5://… or socks5h://…";
            return Err(ConfigError::secret(variable, "is no URL of a proxy", hint));
        }
        let proxy = asked.intercept(&uri).map(|found| Proxy::of(&found));
        let is_socks4 = |proxy: &Proxy| proxy.uri.scheme_str().is_some_and(|scheme| scheme.starts_with("socks4"));
        if proxy.as_ref().is_some_and(|proxy| is_socks4(proxy) && proxy.login.is_some()) {
            let hint = "leave the user and the password out, or use socks5:// or socks5h://";
            return Err(ConfigError::secret(variable, "has a login, and SOCKS4 knows none", hint));
        }
        Ok(proxy)
    }
}

fn is_this_machine(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A proxy, and how to be let in.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Proxy {
    /// Its URL, without credentials: `http`, `https`, `socks4`, `socks4a`, `socks5` or `socks5h`.
    pub(crate) uri: Uri,
    /// For HTTP proxies.
    pub(crate) basic: Option<HeaderValue>,
    /// For SOCKS proxies.
    pub(crate) login: Option<(String, String)>,
}

impl Proxy {
    fn of(found: &Intercept) -> Self {
        let basic = found.basic_auth().cloned().map(|mut value| {
            value.set_sensitive(true);
            value
        });
        let login = found.raw_auth().map(|(user, password)| (user.to_owned(), password.to_owned()));
        Self { uri: found.uri().clone(), basic, login }
    }
}

/// Without what opens its door.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.uri)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(url: &str, variables: &[(&str, &str)]) -> Result<Option<String>, String> {
        let get = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let proxies = Proxies::from_lookup(&Lookup::new(&get));
        proxies
            .on_the_way_to(url)
            .map(|proxy| proxy.map(|proxy| proxy.uri.to_string()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn each_scheme_has_its_variable_all_is_for_the_rest_and_small_letters_win() {
        let proxy = |name: &str| Ok(Some(format!("http://{name}:3128/")));
        let all = ("ALL_PROXY", "http://all:3128");
        let (secure, plain) = (("HTTPS_PROXY", "http://secure:3128"), ("HTTP_PROXY", "plain:3128"));
        assert_eq!(way("https://otel.example:4318/v1/metrics", &[]), Ok(None));
        assert_eq!(way("https://otel.example/", &[all, secure, plain]), proxy("secure"));
        assert_eq!(way("http://otel.example/", &[all, secure, plain]), proxy("plain"));
        assert_eq!(way("http://otel.example/", &[all, secure]), proxy("all"));
        assert_eq!(way("http://otel.example/", &[plain, ("http_proxy", "http://small:3128")]), proxy("small"));
        assert_eq!(way("http://otel.example/", &[("HTTP_PROXY", "")]), Ok(None), "an empty variable is an unset one");
        let socks = ("ALL_PROXY", "socks5h://me:secret@gate:1080");
        assert_eq!(way("https://otel.example/", &[socks]), Ok(Some("socks5h://gate:1080/".to_owned())));
    }

    #[test]
    fn no_proxy_takes_domains_addresses_networks_and_everything() {
        let proxy = ("ALL_PROXY", "http://gate:3128");
        for (except, url, direct) in [
            ("example.com", "http://otel.example.com:4318/", true),
            (".example.com", "http://example.com/", true),
            ("example.com", "http://notexample.com/", false),
            ("10.0.0.0/8, other", "http://10.1.2.3:4318/", true),
            ("10.0.0.0/8", "http://11.1.2.3:4318/", false),
            ("fd00::/8", "http://[fd00::1]:4318/", true),
            ("*", "http://anything.example/", true),
        ] {
            let found = way(url, &[proxy, ("NO_PROXY", except)]).expect("a valid proxy");
            assert_eq!(found.is_none(), direct, "{url} with NO_PROXY={except}");
        }
    }

    #[test]
    fn this_machine_is_reached_without_a_proxy() {
        let proxy = ("ALL_PROXY", "http://gate:3128");
        for url in ["http://localhost:4318/", "http://127.0.0.1:4318/", "http://[::1]:4318/", "unix:/run/otlp.sock"] {
            assert_eq!(way(url, &[proxy]), Ok(None), "{url}");
        }
    }

    #[test]
    fn a_proxy_that_is_none_is_told_without_its_password() {
        let wrong =
            ["ftp://me:secret@gate", "http://me:secret@", "socks9://me:secret@gate:1080", "socks4://me:secret@gate"];
        for value in wrong {
            let error = way("http://otel.example/", &[("HTTP_PROXY", value)]).expect_err("it is none");
            assert!(error.starts_with("HTTP_PROXY: ") && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_variable_that_a_request_can_set_is_not_trusted_in_a_cgi_program() {
        let set = [("REQUEST_METHOD", "GET"), ("HTTP_PROXY", "http://evil:3128")];
        assert_eq!(way("http://otel.example/", &set), Ok(None));
    }
}

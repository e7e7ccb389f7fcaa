//! Remotes as clients name them, and the token that is lent for one.

use domain::address;
use secrecy::{ExposeSecret, SecretString};
use url::{Host, Url};

use super::{Error, Options};

const MAX_URL_CHARS: usize = 2000;

/// Git asks this for a login. It answers with what is in its environment, and keeps nothing.
const HELPER: &str = r#"!f() { if [ "$1" = get ]; then printf 'username=%s\npassword=%s\n' "$ATELIER_GIT_USER" "$ATELIER_GIT_TOKEN"; fi; }; f"#;

/// Where a repository is to be had.
#[derive(Debug, Clone)]
pub struct Remote {
    /// Without a login in it.
    pub url: String,
    /// Lent to commands that reach it.
    pub token: Option<Token>,
    /// What a directory for it is called by default.
    pub name: String,
}

/// A login for one host.
#[derive(Debug, Clone)]
pub struct Token {
    /// `https://host:port`, the only place it is sent to.
    origin: String,
    user: String,
    token: SecretString,
}

impl Remote {
    /// Reads what a client gave for the repository's address: a URL, `user@host:path`, or a path inside the container. A
    /// login in a URL is taken out of it, and used as `token` is if there is none.
    ///
    /// # Errors
    /// `Invalid`, also for a private host where these are not allowed.
    pub fn parse(text: &str, token: Option<SecretString>, options: &Options) -> Result<Self, Error> {
        let wrong = |why: &str| Err(Error::invalid("repoUrl", why));
        let text = text.trim();
        if text.is_empty() || text.chars().count() > MAX_URL_CHARS || text.chars().any(char::is_control) {
            return wrong("must be the address of a repository");
        }
        if text.starts_with('-') || text.contains("::") {
            return wrong("must be an https, ssh or file address");
        }
        if !text.contains("://") {
            if let Some((host, path)) = text.split_once(':').filter(|(host, _)| !host.contains('/')) {
                let host = host.rsplit('@').next().unwrap_or(host);
                check_host(host, options)?;
                return Ok(Self { name: name(path)?, url: text.to_owned(), token: None });
            }
            // Relative to where it is run would depend on that.
            let path = if text.starts_with('/') { text.to_owned() } else { format!("/workspace/{text}") };
            return Ok(Self { name: name(&path)?, url: path, token: None });
        }
        let Ok(mut url) = Url::parse(text) else { return wrong("is not a valid URL") };
        let name = name(url.path())?;
        match url.scheme() {
            "https" | "http" => {}
            "ssh" | "git" => {
                check_host(url.host_str().unwrap_or_default(), options)?;
                if url.password().is_some() {
                    return wrong("must not hold a password");
                }
                return Ok(Self { name, url: url.into(), token: None });
            }
            "file" => return Ok(Self { name, url: url.into(), token: None }),
            _ => return wrong("must be an https, ssh or file address"),
        }
        let is_github = url.origin() == options.github_url.origin();
        if !is_github {
            check_host(url.host_str().unwrap_or_default(), options)?;
        }
        let given = |text: &str| percent_decoded(text);
        let login = match (url.username(), url.password()) {
            ("", _) => None,
            (user, Some(password)) => Some((given(user), given(password))),
            (token, None) => Some(("x-access-token".to_owned(), given(token))),
        };
        // Both fail only for URLs without a host, which http always has.
        let _ = (url.set_username(""), url.set_password(None));
        let login =
            token.map(|token| ("x-access-token".to_owned(), token)).or(login.map(|(user, token)| (user, token.into())));
        let token = match login {
            Some(_) if url.scheme() == "http" && !is_github => {
                return wrong("must be https where a token goes with it");
            }
            Some((user, token)) => Some(Token::new(&url, user, token)?),
            None => None,
        };
        Ok(Self { name, url: url.into(), token })
    }

    /// Gives the repository `full_name` (`owner/name`) of GitHub.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn github(full_name: &str, token: Option<SecretString>, options: &Options) -> Result<Self, Error> {
        let wrong = || Error::invalid("repoFullName", "must be owner/name");
        let (owner, repository) = full_name.trim().split_once('/').ok_or_else(wrong)?;
        let repository = repository.strip_suffix(".git").unwrap_or(repository);
        let is_word = |word: &str| {
            let is_plain = word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
            is_plain && !word.is_empty() && word.len() <= 100 && !word.starts_with(['.', '-'])
        };
        if !is_word(owner) || !is_word(repository) {
            return Err(wrong());
        }
        let base = options.github_url.as_str().trim_end_matches('/');
        let token = match token {
            Some(token) => Some(Token::new(&options.github_url, "x-access-token".to_owned(), token)?),
            None => None,
        };
        Ok(Self { url: format!("{base}/{owner}/{repository}.git"), token, name: repository.to_owned() })
    }
}

impl Token {
    /// A login that is sent to the host of `url` only.
    pub(super) fn new(url: &Url, user: String, token: SecretString) -> Result<Self, Error> {
        let is_word = |text: &str| !text.is_empty() && text.len() <= 4096 && !text.chars().any(char::is_control);
        if !is_word(&user) || !is_word(token.expose_secret()) {
            return Err(Error::invalid("token", "must be one line"));
        }
        Ok(Self { origin: url.origin().ascii_serialization(), user, token })
    }

    /// Settings by which git asks our helper, and no other, and runs nothing of the repository's meanwhile.
    pub(super) fn config(&self) -> Vec<(String, String)> {
        // An empty one takes away all that are set elsewhere.
        let settings = [
            ("credential.helper".to_owned(), ""),
            (format!("credential.{}.helper", self.origin), ""),
            (format!("credential.{}.helper", self.origin), HELPER),
            ("credential.useHttpPath".to_owned(), "false"),
            ("core.hooksPath".to_owned(), "/dev/null"),
            ("http.sslVerify".to_owned(), "true"),
        ];
        settings.map(|(key, value)| (key, value.to_owned())).to_vec()
    }

    pub(super) fn variables(&self) -> [(String, String); 2] {
        [
            ("ATELIER_GIT_USER".to_owned(), self.user.clone()),
            ("ATELIER_GIT_TOKEN".to_owned(), self.token.expose_secret().to_owned()),
        ]
    }

    pub(super) fn taken_out_of(&self, text: &str) -> String {
        text.replace(self.token.expose_secret(), "***")
    }
}

fn check_host(host: &str, options: &Options) -> Result<(), Error> {
    if host.is_empty() || host.starts_with('-') {
        return Err(Error::invalid("repoUrl", "names no host"));
    }
    let is_private = match Host::parse(host) {
        Ok(Host::Ipv4(address)) => !address::is_public(address.into()),
        Ok(Host::Ipv6(address)) => !address::is_public(address.into()),
        // What a name leads to is seen by who resolves it, inside the container and behind its firewall.
        Ok(Host::Domain(name)) => {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            !name.contains('.') || [".localhost", ".local", ".internal"].iter().any(|end| name.ends_with(end))
        }
        Err(_) => return Err(Error::invalid("repoUrl", "names no valid host")),
    };
    match is_private && !options.allow_private_hosts {
        true => Err(Error::invalid("repoUrl", "names a private host, which this server does not allow")),
        false => Ok(()),
    }
}

/// Gives the last part of a path, as git does.
fn name(path: &str) -> Result<String, Error> {
    let path = path.trim_end_matches('/');
    let path = path.strip_suffix("/.git").unwrap_or(path);
    let last = path.rsplit(['/', ':']).next().unwrap_or_default();
    let last = percent_decoded(last.strip_suffix(".git").unwrap_or(last));
    let is_plain = !matches!(&*last, "" | "." | "..") && !last.contains(['/', '\0']) && last.len() <= 255;
    if is_plain { Ok(last) } else { Err(Error::invalid("repoUrl", "must end with the name of a repository")) }
}

fn percent_decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Remote, Error> {
        Remote::parse(text, None, &Options::default())
    }

    #[test]
    fn addresses_are_read_and_logins_taken_out() {
        for (text, url, name, login) in [
            ("https://example.com/a/b.git", "https://example.com/a/b.git", "b", None),
            ("https://me:p%40ss@example.com/a/b/", "https://example.com/a/b/", "b", Some("me p@ss")),
            ("https://tok@example.com/b", "https://example.com/b", "b", Some("x-access-token tok")),
            ("git@example.com:a/b.git", "git@example.com:a/b.git", "b", None),
            ("ssh://git@example.com/a/b", "ssh://git@example.com/a/b", "b", None),
            ("/workspace/remote.git", "/workspace/remote.git", "remote", None),
            ("remotes/x", "/workspace/remotes/x", "x", None),
            ("file:///workspace/x/.git", "file:///workspace/x/.git", "x", None),
        ] {
            let remote = parse(text).unwrap_or_else(|err| panic!("{text}: {err}"));
            let found = remote.token.map(|token| format!("{} {}", token.user, token.token.expose_secret()));
            assert_eq!((&*remote.url, &*remote.name, found.as_deref()), (url, name, login), "{text}");
        }
    }

    #[test]
    fn private_hosts_helpers_and_options_are_refused() {
        for text in [
            "",
            "-x",
            "--upload-pack=touch /tmp/x",
            "ext::sh -c id",
            "https://localhost/a",
            "http://127.0.0.1/a",
            "http://10.1.2.3/a",
            "http://[::1]/a",
            "http://[::ffff:10.0.0.1]/a",
            "http://2130706433/a",
            "http://0x7f.1/a",
            "git@localhost:a",
            "ssh://git@192.168.1.1/a",
            "ssh://-oProxyCommand=x/a",
            "git@-oProxyCommand=x:a",
            "http://metadata.internal/a",
            "http://host/a",
            "https://example.com",
            "https://example.com/..",
            "ftp://example.com/a",
            "http://tok@example.com/a",
            "https://example.com/a\nb",
        ] {
            assert!(parse(text).is_err(), "{text:?} is {:?}", parse(text).map(|remote| remote.url));
        }
        let options = Options { allow_private_hosts: true, ..Options::default() };
        assert!(Remote::parse("http://127.0.0.1:8000/a", None, &options).is_ok());
    }

    #[test]
    fn a_repository_of_github_is_a_name_and_nothing_else() {
        let options = Options::default();
        let remote = Remote::github("octo-org/hello.world", Some("t0ken".into()), &options).expect("is one");
        assert_eq!(remote.url, "https://github.com/octo-org/hello.world.git");
        assert_eq!(remote.token.expect("is kept").origin, "https://github.com");
        for bad in ["", "a", "a/b/c", "../x", "a/..", "-a/b", "a/-b", "a b/c", "a/b?x", "a@evil/b", "a/.git"] {
            assert!(Remote::github(bad, None, &options).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_token_is_not_shown() {
        let remote = Remote::parse("https://me:hunter2@example.com/x", None, &Options::default()).expect("is one");
        assert!(!format!("{remote:?}").contains("hunter2"));
        assert_eq!(remote.token.expect("is kept").taken_out_of("no hunter2 here"), "no *** here");
    }
}

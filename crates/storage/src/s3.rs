//! Buckets of S3, and of what speaks its protocol.
//!
//! Must not: hold or print a credential; the variables that name them go to the client and nowhere else. Invariant: a put
//! of this store that must be new is conditional at the server (`If-None-Match: *`), so two writers cannot both succeed.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientConfigKey, ObjectStore, RetryConfig};
use url::Url;

use crate::error::{Error, Result};

/// How long one request may last, with its body, which may be a whole data file; and how long a connection may take.
const CLIENT_DEFAULTS: [(ClientConfigKey, &str); 2] =
    [(ClientConfigKey::Timeout, "600 seconds"), (ClientConfigKey::ConnectTimeout, "5 seconds")];
/// Tries after the first one; whoever calls tries again in his own time.
const RETRIES_MAX: usize = 3;
/// How long all tries of one request may take.
const RETRY_FOR: Duration = Duration::from_secs(30);
/// The names of variables that say how a bucket is reached begin so, as in other programs.
const PREFIX: &str = "AWS_";

/// Makes the store of `s3://BUCKET[/PREFIX]`. How it is reached and who asks is in `variables`, whose names are those that
/// other programs take from the environment: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`,
/// `AWS_ENDPOINT_URL`, `AWS_ALLOW_HTTP` and others; without keys, the machine's own role is asked for them. Nothing is
/// sent before the store is used.
///
/// # Errors
/// `Url` when the address is not of that form, or a variable has no legal value.
pub fn open(
    url: &str,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<Arc<dyn ObjectStore>> {
    if let Some((_, behind)) = url.rsplit_once('@') {
        // Whatever stands before it would be shown wherever the address is.
        let reason = "a credential is no part of an address".to_owned();
        return Err(Error::Url { url: format!("...@{behind}"), reason });
    }
    let refused = |reason: &str| Error::Url { url: url.to_owned(), reason: reason.to_owned() };
    let parsed = Url::parse(url).map_err(|error| refused(&error.to_string()))?;
    if parsed.scheme() != "s3" {
        return Err(refused("it does not begin with s3://"));
    }
    if parsed.query().is_some() || parsed.fragment().is_some() || parsed.port().is_some() {
        return Err(refused("it has more than a bucket and a prefix"));
    }
    let bucket = parsed.host_str().filter(|host| !host.is_empty());
    let bucket = bucket.ok_or_else(|| refused("it names no bucket"))?;
    let prefix = Path::parse(parsed.path()).map_err(|error| refused(&error.to_string()))?;
    let mut builder = AmazonS3Builder::new();
    for (name, value) in variables {
        let Some(key) = name.strip_prefix(PREFIX) else { continue };
        let Ok(key) = key.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() else { continue };
        builder = builder.with_config(key, value);
    }
    let is_plain = builder
        .get_config_value(&AmazonS3ConfigKey::Endpoint)
        .is_some_and(|endpoint| endpoint.starts_with("http://"));
    let allowed = builder.get_config_value(&AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp));
    let is_allowed = allowed.is_some_and(|allowed| allowed == "true" || allowed == "1");
    if is_plain && !is_allowed {
        return Err(refused("its endpoint is not encrypted; AWS_ALLOW_HTTP=true allows that"));
    }
    // What the variables say of the client holds; only what they leave open is set here.
    for (key, value) in CLIENT_DEFAULTS {
        let key = AmazonS3ConfigKey::Client(key);
        if builder.get_config_value(&key).is_none() {
            builder = builder.with_config(key, value);
        }
    }
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(2),
        ..BackoffConfig::default()
    };
    let retry = RetryConfig { backoff, max_retries: RETRIES_MAX, retry_timeout: RETRY_FOR };
    let store = builder
        .with_bucket_name(bucket)
        .with_retry(retry)
        .build()
        .map_err(|error| refused(&error.to_string()))?;
    Ok(match prefix.as_ref().is_empty() {
        true => Arc::new(store),
        false => Arc::new(PrefixStore::new(store, prefix)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(more: &[(&str, &str)]) -> Vec<(String, String)> {
        let some = [
            ("AWS_REGION", "eu-west-1"),
            ("AWS_ACCESS_KEY_ID", "somebody"),
            ("AWS_SECRET_ACCESS_KEY", "hush-hush"),
        ];
        let all = some.iter().chain(more);
        all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn an_address_of_a_bucket_is_taken_and_every_other_one_is_refused_with_its_reason() {
        for url in ["s3://bucket", "s3://bucket/", "s3://bucket/a/b", "s3://my.bucket-1/x"] {
            open(url, variables(&[])).expect(url);
        }
        for (url, reason) in [
            ("bucket", "relative URL"),
            ("https://bucket", "does not begin with s3://"),
            ("s3://", "names no bucket"),
            ("s3:///a", "names no bucket"),
            ("s3://bucket?x=1", "more than a bucket"),
            ("s3://bucket:90/x", "more than a bucket"),
        ] {
            let error = open(url, variables(&[])).expect_err(url).to_string();
            assert!(error.contains(reason) && error.contains(url), "{error}");
        }
    }

    #[test]
    fn no_error_shows_a_credential() {
        for url in ["s3://me:hush-hush@bucket", "s3://me:hush/hush@bucket", "me:hush@bucket"] {
            let error = open(url, variables(&[])).expect_err("refused");
            assert!(!format!("{error} {error:?}").contains("hush"), "{error:?}");
        }
        let plain = variables(&[("AWS_ENDPOINT_URL", "http://127.0.0.1:1")]);
        let error = open("s3://bucket", plain).expect_err("refused");
        assert!(error.to_string().contains("AWS_ALLOW_HTTP"), "{error}");
        assert!(!format!("{error} {error:?}").contains("hush"), "{error:?}");
        let plain = [("AWS_ENDPOINT_URL", "http://127.0.0.1:1"), ("AWS_ALLOW_HTTP", "true")];
        let store = open("s3://bucket", variables(&plain)).expect("allowed");
        assert!(!format!("{store} {store:?}").contains("hush"), "a store shows its key");
    }
}

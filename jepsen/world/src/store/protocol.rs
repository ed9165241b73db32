//! The calls of S3 that the product makes, over the objects in memory.
//!
//! Must not decide what becomes of a request. Invariant: what a put was answered with is in the bucket.

use std::sync::{Arc, MutexGuard};

use alluvium_stdx::Clock as _;
use bytes::Bytes;
use futures::StreamExt as _;
use s3s::dto::{
    DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ETag, ETagCondition, GetObjectInput,
    GetObjectOutput, HeadObjectInput, HeadObjectOutput, PutObjectInput, PutObjectOutput,
    StreamingBlob, Timestamp, TimestampFormat,
};
use s3s::{Body, S3, S3Request, S3Response, S3Result, s3_error};

use super::objects::{Condition, Objects};
use super::{BUCKET, State};

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Protocol {
    state: Arc<State>,
}

impl Protocol {
    pub(super) fn new(state: Arc<State>) -> Self {
        Self { state }
    }

    fn objects(&self, bucket: &str) -> S3Result<MutexGuard<'_, Objects>> {
        match bucket == BUCKET {
            true => Ok(self.state.objects()),
            false => Err(s3_error!(NoSuchBucket)),
        }
    }

    /// The protocol wants to be told when an object was put; nobody uses it.
    fn now(&self) -> Option<Timestamp> {
        let seconds = (self.state.clock.wall_ms() / 1_000).to_string();
        Timestamp::parse(TimestampFormat::EpochSeconds, &seconds).ok()
    }
}

fn tag(version: u64) -> Option<ETag> {
    Some(ETag::Strong(version.to_string()))
}

fn length(size: u64) -> Option<i64> {
    i64::try_from(size).ok()
}

#[async_trait::async_trait]
impl S3 for Protocol {
    async fn put_object(
        &self,
        request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let input = request.input;
        let condition = match input.if_none_match {
            Some(ETagCondition::Any) => Condition::New,
            Some(_) => return Err(s3_error!(NotImplemented)),
            None => Condition::Nothing,
        };
        let mut bytes = Vec::new();
        let mut body = input.body.ok_or_else(|| s3_error!(IncompleteBody))?;
        while let Some(part) = body.next().await {
            // One that breaks off puts nothing.
            bytes.extend_from_slice(&part.map_err(|_broken| s3_error!(IncompleteBody))?);
        }
        let put = self.objects(&input.bucket)?.put(&input.key, Bytes::from(bytes), condition);
        let version = put.ok_or_else(|| s3_error!(PreconditionFailed))?;
        let e_tag = tag(version);
        Ok(S3Response::new(PutObjectOutput { e_tag, ..PutObjectOutput::default() }))
    }

    async fn get_object(
        &self,
        request: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        let mut objects = self.objects(&input.bucket)?;
        let facts = objects.head(&input.key).ok_or_else(|| s3_error!(NoSuchKey))?;
        let (range, content_range) = match input.range {
            Some(range) => {
                let range = range.check(facts.size).map_err(|_outside| s3_error!(InvalidRange))?;
                let last = range.end.saturating_sub(1);
                let text = format!("bytes {}-{last}/{}", range.start, facts.size);
                (range, Some(text))
            }
            None => (0..facts.size, None),
        };
        let bytes = objects.read(&input.key, range).ok_or_else(|| s3_error!(InvalidRange))?;
        let output = GetObjectOutput {
            content_length: i64::try_from(bytes.len()).ok(),
            content_range,
            e_tag: tag(facts.version),
            last_modified: self.now(),
            body: Some(StreamingBlob::from(Body::from(bytes))),
            ..GetObjectOutput::default()
        };
        Ok(S3Response::new(output))
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = request.input;
        let facts = self.objects(&input.bucket)?.head(&input.key);
        let facts = facts.ok_or_else(|| s3_error!(NoSuchKey))?;
        let output = HeadObjectOutput {
            content_length: length(facts.size),
            e_tag: tag(facts.version),
            last_modified: self.now(),
            ..HeadObjectOutput::default()
        };
        Ok(S3Response::new(output))
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let input = request.input;
        let mut objects = self.objects(&input.bucket)?;
        let mut deleted = Vec::new();
        for object in input.delete.objects {
            objects.delete(&object.key);
            deleted.push(DeletedObject { key: Some(object.key), ..DeletedObject::default() });
        }
        let deleted = Some(deleted);
        Ok(S3Response::new(DeleteObjectsOutput { deleted, ..DeleteObjectsOutput::default() }))
    }
}

#[cfg(test)]
mod tests {
    use alluvium_stdx::SystemClock;
    use s3s::dto::{Delete, ObjectIdentifier, Range};

    use super::*;

    fn request<T>(input: T) -> S3Request<T> {
        S3Request {
            input,
            method: axum::http::Method::GET,
            uri: axum::http::Uri::from_static("/"),
            headers: axum::http::HeaderMap::new(),
            extensions: axum::http::Extensions::new(),
            credentials: None,
            region: None,
            service: None,
            trailing_headers: None,
        }
    }

    fn put(bytes: &'static [u8]) -> S3Request<PutObjectInput> {
        let body = Some(StreamingBlob::from(Body::from(Bytes::from_static(bytes))));
        let (bucket, key) = (BUCKET.to_owned(), "a".to_owned());
        let if_none_match = Some(ETagCondition::Any);
        request(PutObjectInput { bucket, key, body, if_none_match, ..PutObjectInput::default() })
    }

    #[tokio::test(flavor = "current_thread")]
    async fn an_object_is_put_once_read_in_parts_and_deleted() {
        let protocol = Protocol::new(Arc::new(State::new(1, Arc::new(SystemClock::new()))));
        protocol.put_object(put(b"0123456789")).await.expect("it is new");
        let again = protocol.put_object(put(b"other")).await.expect_err("it is there");
        assert_eq!(again.code(), &s3s::S3ErrorCode::PreconditionFailed);
        let (bucket, key) = (BUCKET.to_owned(), "a".to_owned());
        let head = HeadObjectInput {
            bucket: bucket.clone(),
            key: key.clone(),
            ..HeadObjectInput::default()
        };
        let said = protocol.head_object(request(head.clone())).await.expect("it is there");
        assert_eq!(said.output.content_length, Some(10));
        let range = Some(Range::Int { first: 2, last: Some(4) });
        let get =
            GetObjectInput { bucket: bucket.clone(), key, range, ..GetObjectInput::default() };
        let got = protocol.get_object(request(get)).await.expect("it is there").output;
        assert_eq!(got.content_range.as_deref(), Some("bytes 2-4/10"));
        let part = got.body.expect("a body").next().await.expect("a part").expect("whole");
        assert_eq!(&part[..], b"234");
        let object = ObjectIdentifier { key: "a".to_owned(), ..ObjectIdentifier::default() };
        let delete = DeleteObjectsInput {
            bucket,
            bypass_governance_retention: None,
            checksum_algorithm: None,
            delete: Delete { objects: vec![object], quiet: None },
            expected_bucket_owner: None,
            mfa: None,
            request_payer: None,
        };
        protocol.delete_objects(request(delete)).await.expect("deleted");
        let gone = protocol.head_object(request(head)).await.expect_err("gone");
        assert_eq!(gone.code(), &s3s::S3ErrorCode::NoSuchKey);
    }
}

//! Clients' bytes: what is right is read, what is wrong is a typed error, whatever it claims.

use alluvium_stdx::Prng;
use arrow::array::{
    DictionaryArray, Int8Array, Int64Array, LargeStringArray, StringArray, StringViewArray,
};
use arrow::datatypes::Int8Type;
use arrow::ipc::CompressionType;
use arrow::ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};

use super::*;
use crate::samples::{column, wide};

fn options(compression: Option<CompressionType>) -> IpcWriteOptions {
    IpcWriteOptions::default().try_with_compression(compression).expect("legal")
}

fn stream(batches: &[RecordBatch], compression: Option<CompressionType>) -> Bytes {
    let schema = batches[0].schema();
    let mut writer =
        StreamWriter::try_new_with_options(Vec::new(), &schema, options(compression)).expect("new");
    batches.iter().for_each(|batch| writer.write(batch).expect("written"));
    writer.finish().expect("finished");
    writer.into_inner().expect("finished").into()
}

fn file(batches: &[RecordBatch], compression: Option<CompressionType>) -> Bytes {
    let schema = batches[0].schema();
    let mut writer =
        FileWriter::try_new_with_options(Vec::new(), &schema, options(compression)).expect("new");
    batches.iter().for_each(|batch| writer.write(batch).expect("written"));
    writer.finish().expect("finished");
    writer.into_inner().expect("finished").into()
}

fn decode(bytes: &Bytes) -> Result<Vec<RecordBatch>, Error> {
    decode_stream(bytes, StreamLimits::standard()).map(|(_, batches)| batches)
}

fn plain(batch: &RecordBatch) -> RecordBatch {
    // The reader leaves metadata out, and nothing else.
    let fields: Vec<Field> = batch.schema().fields().iter().map(|f| bare(f)).collect();
    let columns = batch.columns().to_vec();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("same columns")
}

fn bare(field: &Field) -> Field {
    field.clone().with_metadata(Default::default())
}

const CODECS: [Option<CompressionType>; 3] =
    [None, Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD)];

#[test]
fn streams_and_files_round_trip_with_every_compression() {
    let batches = [wide(500, 1), wide(0, 2), wide(70, 3)];
    let expected: Vec<RecordBatch> = batches.iter().map(plain).collect();
    for codec in CODECS {
        assert_eq!(decode(&stream(&batches, codec)).expect("a stream"), expected);
        assert_eq!(decode(&file(&batches, codec)).expect("a file"), expected);
    }
}

fn dictionary(values: &[Option<&str>]) -> ArrayRef {
    let array: DictionaryArray<Int8Type> = values.iter().copied().collect();
    Arc::new(array)
}

#[test]
fn dictionaries_views_and_large_text_are_read() {
    let values = [Some("a"), None, Some("b"), Some("a")];
    let views: ArrayRef = Arc::new(StringViewArray::from(vec![Some("long enough for a block"); 4]));
    let large: ArrayRef = Arc::new(LargeStringArray::from(values.to_vec()));
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("d", dictionary(&values), true),
        ("v", Arc::clone(&views), true),
        ("l", Arc::clone(&large), true),
    ]);
    let batch = batch.expect("columns");
    let text: ArrayRef = Arc::new(StringArray::from(values.to_vec()));
    for bytes in [stream(std::slice::from_ref(&batch), CODECS[1]), file(&[batch], None)] {
        let found = decode(&bytes).expect("rows");
        assert_eq!(found[0].columns(), [Arc::clone(&text), Arc::clone(&views), Arc::clone(&large)]);
    }
}

#[test]
fn every_truncation_is_an_error() {
    let batches = [wide(20, 1), wide(5, 2)];
    for bytes in [stream(&batches, None), file(&batches, CODECS[1])] {
        for length in 0..bytes.len() {
            let error = decode(&bytes.slice(..length)).expect_err("cut");
            assert_eq!(error.kind(), alluvium_types::ErrorKind::InvalidArgument, "{length}");
        }
        assert_eq!(decode(&bytes).expect("whole").len(), 2);
    }
}

#[test]
fn garbage_is_an_error() {
    let mut prng = Prng::from_seed(3);
    for length in [0, 1, 7, 8, 9, 64, 1_000] {
        let mut bytes = vec![0; length];
        prng.fill(&mut bytes);
        for start in [&b""[..], b"ARROW1\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\xff\x10\0\0\0"] {
            let bytes = Bytes::from([start, &bytes, b"ARROW1"].concat());
            let error = decode(&bytes).expect_err("garbage");
            assert_eq!(error.kind(), alluvium_types::ErrorKind::InvalidArgument);
        }
    }
}

#[test]
fn thousands_of_mutations_never_panic_and_stay_within_the_budget() {
    let text = dictionary(&[Some("x"), Some("yy"), None]);
    let views: ArrayRef =
        Arc::new(StringViewArray::from(vec![Some("a longer text than twelve"); 3]));
    let small = RecordBatch::try_from_iter([("d", text), ("v", views)]).expect("columns");
    let mut prng = Prng::from_seed(0x57ea);
    let limits = StreamLimits { memory_bytes: 4 << 20, rows: 10_000, batches: 16 };
    let mut refused = 0;
    for codec in CODECS {
        for bytes in [stream(&[wide(9, 4)], codec), stream(std::slice::from_ref(&small), codec)] {
            for _ in 0..2_000 {
                let mut damaged = bytes.to_vec();
                for _ in 0..=prng.below(3) {
                    let at = usize::try_from(prng.below(damaged.len() as u64)).expect("small");
                    let value = prng.next_u64().to_le_bytes()[0];
                    damaged[at] = *prng.pick(&[0, 1, 0x7f, 0x80, 0xff, value]).expect("some");
                }
                match decode_stream(&damaged.into(), limits) {
                    Ok((_, batches)) => assert!(batches.len() <= 16),
                    Err(_) => refused += 1,
                }
            }
        }
    }
    assert!(refused > 2_000, "only {refused} of 12000 mutations were noticed");
}

#[test]
fn compressed_bombs_are_refused_by_the_budget_before_they_are_decompressed() {
    let zeros = column("n", Arc::new(Int64Array::from(vec![0; 1 << 20])));
    let limits = StreamLimits { memory_bytes: 1 << 20, ..StreamLimits::standard() };
    for codec in CODECS {
        let bytes = stream(std::slice::from_ref(&zeros), codec);
        let error = decode_stream(&bytes, limits).expect_err("8 MB");
        assert_eq!(error.kind(), alluvium_types::ErrorKind::ResourceExhausted);
    }
}

#[test]
fn a_compressed_buffer_that_lies_about_its_length_is_refused() {
    let zeros = column("n", Arc::new(Int64Array::from(vec![0; 1 << 17])));
    for codec in [CODECS[1], CODECS[2]] {
        let bytes = stream(std::slice::from_ref(&zeros), codec).to_vec();
        let length = (1_u64 << 20).to_le_bytes();
        let at = (0..bytes.len() - 8)
            .step_by(8)
            .rfind(|at| bytes[*at..*at + 8] == length)
            .expect("there");
        for claim in [8_u64, (1 << 20) - 8, (1 << 20) + 8, u64::MAX - 1, 1 << 40, 1 << 62] {
            let mut lying = bytes.clone();
            lying[at..at + 8].copy_from_slice(&claim.to_le_bytes());
            let error = decode(&lying.into()).expect_err("a lie").to_string();
            let reasons = ["compressed", "invalid", "bytes of memory", "outside its bounds"];
            assert!(reasons.iter().any(|reason| error.contains(reason)), "{claim}: {error}");
        }
    }
}

#[test]
fn one_long_value_repeated_by_a_dictionary_or_views_is_charged_as_often_as_it_is_used() {
    let long = "x".repeat(1 << 20);
    let values: ArrayRef = Arc::new(StringArray::from(vec![long.as_str()]));
    let keys = Int8Array::from(vec![0; 4_000]);
    let repeated: ArrayRef = Arc::new(DictionaryArray::<Int8Type>::new(keys, values));
    let block = arrow::buffer::Buffer::from(long.as_bytes());
    let view = arrow::array::ByteView::new(1 << 20, b"xxxx").as_u128();
    let views = arrow::buffer::ScalarBuffer::from(vec![view; 4_000]);
    let views = StringViewArray::try_new(views, vec![block], None).expect("valid views");
    for array in [repeated, Arc::new(views) as ArrayRef] {
        let error = decode(&stream(&[column("c", array)], None)).expect_err("4 GB");
        assert_eq!(error.kind(), alluvium_types::ErrorKind::ResourceExhausted);
    }
}

#[test]
fn rows_and_batches_are_limited() {
    let bytes = stream(&[wide(10, 1), wide(10, 2)], None);
    let limit = |limits: StreamLimits| {
        decode_stream(&bytes, limits).expect_err("over the limit").to_string()
    };
    let rows = limit(StreamLimits { rows: 19, ..StreamLimits::standard() });
    assert_eq!(rows, "the Arrow stream needs 20 rows, the limit is 19");
    let batches = limit(StreamLimits { batches: 1, ..StreamLimits::standard() });
    assert!(batches.contains("2 batches"), "{batches}");
}

#[test]
fn bytes_behind_the_end_and_unsupported_types_are_refused() {
    let bytes = stream(&[wide(1, 1)], None);
    let longer = Bytes::from([&bytes[..], b"more"].concat());
    assert!(decode(&longer).expect_err("more").to_string().contains("bytes follow"));
    let nulls = column("nothing", Arc::new(arrow::array::NullArray::new(3)));
    let error = decode(&stream(&[nulls], None)).expect_err("no such type").to_string();
    assert!(error.contains("\"nothing\""), "{error}");
}

#[test]
fn streams_and_files_of_another_writer_are_read() {
    let program = "import sys, pyarrow as p\n\
        d = p.array(['x', None, 'yy', 'x']).dictionary_encode()\n\
        v = p.array(['a long text, longer than twelve', '', None, 'b'], p.string_view())\n\
        l = p.array([[1], None, [], [2, 3]], p.list_(p.int16()))\n\
        s = p.array([{'a': 1}, None, {'a': None}, {'a': 4}], p.struct([('a', p.int64())]))\n\
        t = p.table({'d': d, 'v': v, 'l': l, 's': s})\n\
        o = p.ipc.IpcWriteOptions(compression=None if sys.argv[2] == 'none' else sys.argv[2])\n\
        w = getattr(p.ipc, 'new_' + sys.argv[1])(sys.stdout.buffer, t.schema, options=o)\n\
        w.write_table(t, max_chunksize=3)\n\
        w.close()";
    let interpreter = std::env::var("ALLUVIUM_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    for kind in ["stream", "file"] {
        for codec in ["none", "lz4", "zstd"] {
            let mut command = std::process::Command::new(&interpreter);
            let output = command.args(["-c", program, kind, codec]).output().expect("a pyarrow");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let batches = decode(&output.stdout.into()).expect("rows");
            assert_eq!(batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [3, 1]);
            let text = arrow::util::pretty::pretty_format_batches(&batches).expect("shown");
            let text = text.to_string();
            for expected in ["| yy | ", "a long text, longer than twelve", "[2, 3]", "{a: 4}"] {
                assert!(text.contains(expected), "{kind} {codec}:\n{text}");
            }
        }
    }
}

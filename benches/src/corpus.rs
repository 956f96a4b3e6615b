//! The events that are measured with: predictions of about 270 bytes with ids and payloads that are random, and the same
//! every time.
//!
//! Their random id is the `prediction_id`, as in the documentation's examples. An event may also have an `id`, by which a
//! repeat is recognised; that costs more, so it is measured by itself.

use std::fmt::Write as _;
use std::sync::Arc;

use anyhow::Result;
use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{DataType, Field, Schema};
use bytes::Bytes;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};

/// Models, and versions of each, that take turns.
const MODELS: [&str; 4] = ["resnet50", "bert-base", "fraud-detector", "ranker"];
pub(crate) const VERSIONS: [&str; 2] = ["v1.0.0", "v1.1.0"];

/// How predictions are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// By `prediction_id`.
    PredictionId,
    /// By `id`, which is the prediction's too: repeats are recognised.
    EventId,
}

impl Naming {
    fn field(self) -> &'static str {
        match self {
            Self::PredictionId => "prediction_id",
            Self::EventId => "id",
        }
    }
}

/// A prediction.
#[derive(Debug)]
pub struct Prediction {
    pub id: String,
    pub model: &'static str,
    pub version: &'static str,
    /// JSON.
    pub input: String,
    /// JSON.
    pub output: String,
    pub predicted_class: String,
    pub confidence: f64,
    pub inference_time_ms: f64,
}

/// Predictions without end, the same for the same seed.
#[derive(Debug)]
pub struct Predictions {
    random: Xoshiro256PlusPlus,
}

impl Predictions {
    /// Starts over.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            random: Xoshiro256PlusPlus::seed_from_u64(seed),
        }
    }
}

impl Iterator for Predictions {
    type Item = Prediction;

    fn next(&mut self) -> Option<Prediction> {
        let random = &mut self.random;
        let (high, low) = (random.random::<u64>(), random.random::<u64>());
        let class = random.random_range(0..1_000);
        let mut share = |below: u32| f64::from(random.random_range(0..below)) / f64::from(below);
        let confidence = share(10_000);
        let second = share(10_000);
        let inference_time_ms = f64::from((share(6_000) * 6_000.0) as u32) / 100.0;
        let image = random.random::<u32>();
        Some(Prediction {
            id: format!("{high:016x}{low:016x}"),
            model: MODELS[random.random_range(0..MODELS.len())],
            version: VERSIONS[random.random_range(0..VERSIONS.len())],
            input: format!(r#"{{"image":"{image:08x}.jpg"}}"#),
            output: format!(r#"{{"class":{class},"scores":[{confidence},{second}]}}"#),
            predicted_class: format!("class-{class}"),
            confidence,
            inference_time_ms,
        })
    }
}

impl Prediction {
    pub(crate) fn push_json(&self, naming: Naming, out: &mut String) {
        let name = naming.field();
        let Self {
            id,
            model,
            version,
            input,
            output,
            predicted_class,
            confidence,
            inference_time_ms,
        } = self;
        writeln!(
            out,
            r#"{{"type":"PredictionLogged","{name}":"{id}","model":"{model}","version":"{version}","input":{input},"output":{output},"predicted_class":"{predicted_class}","confidence":{confidence},"inference_time_ms":{inference_time_ms}}}"#
        )
        .expect("a string takes all text");
    }
}

/// A body to send, and how many events it holds.
#[derive(Clone, Debug)]
pub struct Body {
    pub bytes: Bytes,
    pub events: usize,
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Bodies of NDJSON, `each` events in every one but the last.
#[must_use]
pub fn ndjson(naming: Naming, seed: u64, events: usize, each: usize) -> Vec<Body> {
    cut(seed, events, each, |predictions| {
        let mut text = String::new();
        predictions
            .iter()
            .for_each(|prediction| prediction.push_json(naming, &mut text));
        text.into_bytes().into()
    })
}

/// Arrow IPC streams, `each` events in every one but the last.
///
/// # Errors
/// If Arrow refuses to write.
pub fn arrow(seed: u64, events: usize, each: usize) -> Result<Vec<Body>> {
    let mut failed = None;
    let bodies = cut(seed, events, each, |predictions| {
        arrow_stream(predictions).unwrap_or_else(|error| {
            failed = Some(error);
            Bytes::new()
        })
    });
    failed.map_or(Ok(bodies), Err)
}

fn cut(
    seed: u64,
    events: usize,
    each: usize,
    mut write: impl FnMut(&[Prediction]) -> Bytes,
) -> Vec<Body> {
    let mut predictions = Predictions::new(seed);
    let mut bodies = Vec::new();
    let mut left = events;
    while left > 0 {
        let count = left.min(each);
        let some: Vec<_> = predictions.by_ref().take(count).collect();
        bodies.push(Body {
            bytes: write(&some),
            events: count,
        });
        left -= count;
    }
    bodies
}

fn arrow_stream(predictions: &[Prediction]) -> Result<Bytes> {
    let texts = |text: fn(&Prediction) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(predictions.iter().map(text)))
    };
    let floats = |float: fn(&Prediction) -> f64| -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(
            predictions.iter().map(float),
        ))
    };
    let columns = [
        ("prediction_id", texts(|prediction| &prediction.id)),
        ("model", texts(|prediction| prediction.model)),
        ("version", texts(|prediction| prediction.version)),
        ("input", texts(|prediction| &prediction.input)),
        ("output", texts(|prediction| &prediction.output)),
        (
            "predicted_class",
            texts(|prediction| &prediction.predicted_class),
        ),
        ("confidence", floats(|prediction| prediction.confidence)),
        (
            "inference_time_ms",
            floats(|prediction| prediction.inference_time_ms),
        ),
    ];
    let field = |(name, array): &(&str, ArrayRef)| {
        let ty: &DataType = array.data_type();
        Field::new(*name, ty.clone(), false)
    };
    let fields: Vec<_> = columns.iter().map(field).collect();
    let metadata = [("modelog.kind".to_owned(), "PredictionLogged".to_owned())];
    let schema = Arc::new(Schema::new_with_metadata(fields, metadata.into()));
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays)?;
    let mut writer = StreamWriter::try_new(Vec::new(), &schema)?;
    writer.write(&batch)?;
    Ok(writer.into_inner()?.into())
}

#[cfg(test)]
mod tests {
    use modelog_formats::{Format, Options, decode};
    use sha2::{Digest as _, Sha256};

    use super::*;

    #[test]
    fn the_corpus_is_fixed() {
        let bodies = ndjson(Naming::PredictionId, 1, 1_000, 300);
        let events: Vec<_> = bodies.iter().map(|body| body.events).collect();
        assert_eq!(events, [300, 300, 300, 100]);
        let mut hash = Sha256::new();
        bodies.iter().for_each(|body| hash.update(&body.bytes));
        let hash: String = hash
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            hash,
            "522a1b6606d6546871198aa917af1fbd80804191168de15d15c4d91b63e29e00"
        );
        let bytes: usize = bodies.iter().map(|body| body.bytes.len()).sum();
        assert!((260_000..280_000).contains(&bytes), "{bytes}");
    }

    #[test]
    fn both_forms_are_the_same_events() {
        let json = &ndjson(Naming::PredictionId, 7, 50, 50)[0];
        let arrow = &arrow(7, 50, 50).unwrap()[0];
        let rows = |body: &Body, format| {
            let decoded = decode(&body.bytes, format, &Options::default()).unwrap();
            assert!(decoded.unknown_fields.is_empty());
            assert_eq!(decoded.batch.rows(), 50);
            let directory = tempfile::tempdir().unwrap();
            let engine = modelog_engine::Engine::open(directory.path()).unwrap();
            engine
                .append_blocking(decoded.batch, modelog_engine::AppendOptions::default())
                .unwrap();
            let mut reader = engine.reader(modelog_engine::Offset::ZERO);
            let batches = reader.read(1 << 20).unwrap();
            let rows = batches.iter().flat_map(|batch| batch.in_order());
            rows.map(|row| row.to_event().fact).collect::<Vec<_>>()
        };
        let found = rows(json, Format::Ndjson);
        assert_eq!(found.len(), 50);
        assert_eq!(found, rows(arrow, Format::Arrow));
    }
}

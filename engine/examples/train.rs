//! Trains a line on noisy points and keeps the record in an embedded log: no server, no network.
//!
//! ```text
//! cargo run -p modelog-engine --example train -- [DIRECTORY]
//! ```

use modelog_engine::event::{
    Event, ExperimentCreated, HyperparametersLogged, Json, MetricLogged, ModelVersionCreated,
    PredictionLogged, RunFinished, RunStarted,
};
use modelog_engine::{Engine, Offset};

/// A little generator, so that every run sees the same noise.
fn noise(state: &mut u64) -> f64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    ((*state >> 33) as f64 / f64::from(1_u32 << 31) - 0.5) * 0.2
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "modelog-train".into());
    let engine = Engine::open(directory)?;
    let run = format!("line-{}", engine.tail());

    engine.log_blocking(ExperimentCreated {
        experiment: "lines".into(),
        ..Default::default()
    })?;
    engine.log_blocking(RunStarted {
        run: run.clone(),
        experiment: Some("lines".into()),
        model: Some("line".into()),
        version: Some("v1".into()),
        ..Default::default()
    })?;
    engine.log_blocking(HyperparametersLogged {
        run: run.clone(),
        params: Json::parse(r#"{"learning_rate": 0.1, "epochs": 50}"#)?,
    })?;

    let mut seed = 7;
    let points: Vec<(f64, f64)> = (0..100)
        .map(|at| f64::from(at) / 100.0)
        .map(|x| (x, 3.0 * x + 1.0 + noise(&mut seed)))
        .collect();
    let (mut slope, mut offset) = (0.0, 0.0);
    let mut metrics: Vec<Event> = Vec::new();
    for epoch in 0..50 {
        let (mut loss, mut slope_gradient, mut offset_gradient) = (0.0, 0.0, 0.0);
        for (x, y) in &points {
            let error = slope * x + offset - y;
            loss += error * error / points.len() as f64;
            slope_gradient += 2.0 * error * x / points.len() as f64;
            offset_gradient += 2.0 * error / points.len() as f64;
        }
        slope -= 0.5 * slope_gradient;
        offset -= 0.5 * offset_gradient;
        metrics.push(
            MetricLogged {
                name: "loss".into(),
                value: loss,
                run: Some(run.clone()),
                step: Some(epoch),
                split: Some("train".into()),
                ..Default::default()
            }
            .into(),
        );
    }
    // One call, one sync, fifty durable points.
    engine.append_events_blocking(&metrics)?;

    engine.log_blocking(ModelVersionCreated {
        model: "line".into(),
        version: "v1".into(),
        config: Some(serde_json::json!({"slope": slope, "offset": offset}).into()),
        run: Some(run.clone()),
        ..Default::default()
    })?;
    engine.log_blocking(PredictionLogged {
        model: "line".into(),
        version: "v1".into(),
        input: Some(serde_json::json!({"x": 0.5}).into()),
        predicted_value: Some(slope * 0.5 + offset),
        ..Default::default()
    })?;
    engine.log_blocking(RunFinished {
        run,
        status: "finished".into(),
        error: None,
    })?;

    // Everything is read back in order, as rows or as Arrow arrays.
    let mut reader = engine.reader(Offset::ZERO);
    let mut events = 0;
    loop {
        let batches = reader.read(1 << 20)?;
        if batches.is_empty() {
            break;
        }
        for batch in batches {
            events += batch.in_order().len();
        }
    }
    println!("slope {slope:.2}, offset {offset:.2}; {events} events in the log");
    engine.close_blocking()?;
    Ok(())
}

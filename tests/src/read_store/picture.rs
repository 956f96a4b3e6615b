//! Everything a store answers about what it knows, as lines of text that can be compared.

use std::fmt::{Debug, Write as _};

use modelog_engine::Timestamp;
use modelog_engine::read::{
    Key, ReadStore, RunFilter, RunOrder, SeriesOwner, SeriesQuery, VersionKey, VersionStats,
};

use super::{pages, second};

/// The answers of a store to every question about what its lists name, and about some things they may not name.
///
/// # Panics
/// If a question is not answered.
pub async fn picture(reads: &dyn ReadStore) -> Vec<String> {
    let mut picture = Picture {
        reads,
        lines: Vec::new(),
    };
    picture.add("offset", &reads.offset().await.unwrap());
    picture.add("stats", &reads.stats().await.unwrap());
    for dataset in pages(2, |page| reads.datasets(page)).await {
        let by_name = reads.dataset(&Key::Name(dataset.dataset.clone())).await;
        assert_eq!(by_name.unwrap().as_ref(), Some(&dataset));
        picture.add("dataset", &dataset);
    }
    for experiment in pages(2, |page| reads.experiments(page)).await {
        let name = Key::Name(experiment.experiment.clone());
        let by_name = reads.experiment(&name).await;
        assert_eq!(by_name.unwrap().as_ref(), Some(&experiment));
        picture.add("experiment", &experiment);
        let filter = RunFilter {
            experiment: Some(experiment.experiment),
            ..RunFilter::default()
        };
        picture.listed_runs(&filter).await;
    }
    for model in pages(2, |page| reads.models(page)).await {
        let by_name = reads.model(&Key::Name(model.model.clone())).await;
        assert_eq!(by_name.unwrap().as_ref(), Some(&model));
        picture.add("model", &model);
        picture.model(&Key::Id(model.id)).await;
        for alias in &model.aliases {
            let key = VersionKey::Alias {
                model: Key::Id(model.id),
                alias: alias.alias.clone(),
            };
            picture.add("alias", &reads.version(&key).await.unwrap());
        }
    }
    for order in [
        RunOrder::NewestStarted,
        RunOrder::OldestStarted,
        RunOrder::Name,
    ] {
        for status in [None, Some("running"), Some("failed")] {
            let filter = RunFilter {
                status: status.map(str::to_owned),
                order,
                ..RunFilter::default()
            };
            picture.listed_runs(&filter).await;
        }
    }
    let all = RunFilter::default();
    for run in pages(3, |page| reads.runs(&all, page)).await {
        let by_id = reads.run(&Key::Id(run.id)).await.unwrap();
        assert_eq!(by_id.as_ref(), Some(&run));
        picture.add("run", &run);
        picture.series(&SeriesOwner::Run(Key::Name(run.run))).await;
    }
    picture.lines
}

/// Statistics whose sums, which depend on the order of addition, are cut to what matters.
fn rounded(stats: VersionStats) -> VersionStats {
    let round = |value: Option<f64>| {
        let rounded = value.map(|value| format!("{value:.11e}").parse());
        rounded.transpose().expect("a number that was written")
    };
    VersionStats {
        latency_ms_mean: round(stats.latency_ms_mean),
        confidence_mean: round(stats.confidence_mean),
        confidence_stddev: round(stats.confidence_stddev),
        mean_absolute_error: round(stats.mean_absolute_error),
        root_mean_square_error: round(stats.root_mean_square_error),
        ..stats
    }
}

struct Picture<'a> {
    reads: &'a dyn ReadStore,
    lines: Vec<String>,
}

impl Picture<'_> {
    fn add(&mut self, what: &str, answer: &dyn Debug) {
        let mut line = String::new();
        write!(line, "{what}: {answer:?}").expect("a string takes all text");
        self.lines.push(line);
    }

    async fn model(&mut self, key: &Key) {
        let reads = self.reads;
        let versions = pages(2, |page| async {
            Ok(reads.versions(key, page).await?.expect("it is listed"))
        });
        for version in versions.await {
            let by_id = reads.version(&VersionKey::Id(version.id)).await.unwrap();
            assert_eq!(by_id.as_ref(), Some(&version));
            self.add("version", &version);
            self.version(&VersionKey::Id(version.id), key).await;
        }
    }

    async fn version(&mut self, key: &VersionKey, model: &Key) {
        let reads = self.reads;
        self.series(&SeriesOwner::Version(key.clone())).await;
        let predictions = pages(3, |page| async {
            Ok(reads.predictions(key, page).await?.expect("it is listed"))
        });
        for prediction in predictions.await {
            let by_id = reads.prediction(model, &prediction.prediction_id).await;
            let by_id = by_id.unwrap().expect("it is listed");
            assert_eq!(format!("{by_id:?}"), format!("{prediction:?}"));
            self.add("prediction", &prediction);
        }
        let stretches: [(Option<Timestamp>, Option<Timestamp>); 4] = [
            (None, None),
            (Some(second(0)), None),
            (None, Some(second(3))),
            (Some(second(1)), Some(second(4))),
        ];
        for (since, until) in stretches {
            let stats = reads.version_stats(key, since, until).await.unwrap();
            self.add("version stats", &stats.map(rounded));
        }
    }

    async fn series(&mut self, owner: &SeriesOwner) {
        let reads = self.reads;
        let series = reads.series(owner).await.unwrap().expect("it is listed");
        for summary in series {
            self.add("series", &summary);
            let questions: [(Option<i64>, Option<i64>, Option<u32>); 5] = [
                (None, None, None),
                (Some(1), Some(2), None),
                (None, None, Some(2)),
                (None, None, Some(5)),
                (Some(1), None, Some(6)),
            ];
            for (from_step, to_step, max_points) in questions {
                let query = SeriesQuery {
                    split: summary.split.clone(),
                    from_step,
                    to_step,
                    max_points,
                };
                let points = reads.points(owner, &summary.name, &query).await.unwrap();
                self.add("points", &points);
            }
        }
    }

    async fn listed_runs(&mut self, filter: &RunFilter) {
        let reads = self.reads;
        let runs = pages(2, |page| reads.runs(filter, page)).await;
        let names: Vec<_> = runs.into_iter().map(|run| run.run).collect();
        self.add(&format!("runs {filter:?}"), &names);
    }
}

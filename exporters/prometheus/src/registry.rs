//! All series, by metric and labels, and their text.
//!
//! A series is known by its labels as they are written. Escaping keeps different labels different, so the text is as
//! good a key as the labels, and is ready when it is asked for.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use modelog_engine::metrics::{Metric, MetricType};

use crate::series::{Counter, Gauge, Histogram};

/// The series of every metric of a table.
#[derive(Debug)]
pub(crate) struct Registry {
    /// By name.
    families: BTreeMap<&'static str, Family>,
}

/// One metric and its series, by the text of their labels.
#[derive(Debug)]
struct Family {
    metric: &'static Metric,
    series: RwLock<BTreeMap<String, Series>>,
}

#[derive(Clone, Debug)]
enum Series {
    Counter(Arc<Counter>),
    Gauge(Arc<Gauge>),
    Histogram(Arc<Histogram>),
}

impl Series {
    fn new(ty: MetricType) -> Self {
        match ty {
            MetricType::Counter => Self::Counter(Arc::default()),
            MetricType::Gauge => Self::Gauge(Arc::default()),
            MetricType::Histogram(bounds) => Self::Histogram(Arc::new(Histogram::new(bounds))),
        }
    }
}

impl Registry {
    /// Metrics without labels have their series from the start; others when they are first asked for.
    pub(crate) fn new(table: &'static [Metric]) -> Self {
        let families = table.iter().map(|metric| {
            let family = Family {
                metric,
                series: RwLock::default(),
            };
            if metric.labels.is_empty() {
                family.get(&[]);
            }
            (metric.name, family)
        });
        Self {
            families: families.collect(),
        }
    }

    /// The metric of a name, if the table has it.
    pub(crate) fn metric(&self, name: &str) -> Option<&'static Metric> {
        self.families.get(name).map(|family| family.metric)
    }

    /// A series of a counter. `labels` are values, in the order of the table.
    ///
    /// # Panics
    /// If the table has no such counter, or other labels; so the others.
    pub(crate) fn counter(&self, name: &str, labels: &[&str]) -> Arc<Counter> {
        match self.family(name).get(labels) {
            Series::Counter(counter) => counter,
            _ => panic!("`{name}` is no counter"),
        }
    }

    /// A series of a gauge.
    pub(crate) fn gauge(&self, name: &str, labels: &[&str]) -> Arc<Gauge> {
        match self.family(name).get(labels) {
            Series::Gauge(gauge) => gauge,
            _ => panic!("`{name}` is no gauge"),
        }
    }

    /// A series of a histogram.
    pub(crate) fn histogram(&self, name: &str, labels: &[&str]) -> Arc<Histogram> {
        match self.family(name).get(labels) {
            Series::Histogram(histogram) => histogram,
            _ => panic!("`{name}` is no histogram"),
        }
    }

    /// Takes a series out; should it come back, it starts at zero.
    pub(crate) fn remove(&self, name: &str, labels: &[&str]) {
        let family = self.family(name);
        family.write().remove(&label_text(family.metric, labels));
    }

    fn family(&self, name: &str) -> &Family {
        self.families
            .get(name)
            .unwrap_or_else(|| panic!("`{name}` is not in the table"))
    }

    /// Everything, in the text format of Prometheus, version 0.0.4.
    pub(crate) fn render(&self) -> String {
        let mut out = String::new();
        self.families
            .values()
            .for_each(|family| family.render(&mut out));
        out
    }
}

impl Family {
    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<String, Series>> {
        self.series.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Series>> {
        self.series.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called for every event: a series that is there is found without allocating.
    fn get(&self, labels: &[&str]) -> Series {
        thread_local! {
            static TEXT: RefCell<String> = const { RefCell::new(String::new()) };
        }
        TEXT.with_borrow_mut(|text| {
            text.clear();
            push_labels(text, self.metric, labels);
            if let Some(series) = self.read().get(text.as_str()) {
                return series.clone();
            }
            let mut series = self.write();
            let new = || Series::new(self.metric.ty);
            series.entry(text.clone()).or_insert_with(new).clone()
        })
    }

    fn render(&self, out: &mut String) {
        let series = self.read();
        if series.is_empty() {
            return;
        }
        let Metric { name, ty, help, .. } = self.metric;
        let word = match ty {
            MetricType::Counter => "counter",
            MetricType::Gauge => "gauge",
            MetricType::Histogram(_) => "histogram",
        };
        out.push_str("# HELP ");
        out.push_str(name);
        out.push(' ');
        push_escaped(out, help, false);
        out.push_str("\n# TYPE ");
        out.push_str(name);
        out.push(' ');
        out.push_str(word);
        out.push('\n');
        for (labels, series) in &*series {
            match series {
                Series::Counter(counter) => {
                    push_name(out, name, "", labels, None);
                    writeln!(out, " {}", counter.value()).expect("a string takes all text");
                }
                Series::Gauge(gauge) => {
                    push_name(out, name, "", labels, None);
                    push_number(out, gauge.value());
                }
                Series::Histogram(histogram) => push_histogram(out, name, labels, histogram),
            }
        }
    }
}

fn push_histogram(out: &mut String, name: &str, labels: &str, histogram: &Histogram) {
    let mut count = 0;
    for (bound, below) in histogram.cumulated() {
        push_name(out, name, "_bucket", labels, Some(bound));
        writeln!(out, " {below}").expect("a string takes all text");
        count = below;
    }
    push_name(out, name, "_sum", labels, None);
    push_number(out, histogram.sum());
    push_name(out, name, "_count", labels, None);
    writeln!(out, " {count}").expect("a string takes all text");
}

fn push_name(out: &mut String, name: &str, suffix: &str, labels: &str, bound: Option<f64>) {
    out.push_str(name);
    out.push_str(suffix);
    if labels.is_empty() && bound.is_none() {
        return;
    }
    out.push('{');
    out.push_str(labels);
    if let Some(bound) = bound {
        if !labels.is_empty() {
            out.push(',');
        }
        let text = Number(bound);
        write!(out, "le=\"{text}\"").expect("a string takes all text");
    }
    out.push('}');
}

fn push_number(out: &mut String, value: f64) {
    writeln!(out, " {}", Number(value)).expect("a string takes all text");
}

/// A number as Prometheus spells it.
struct Number(f64);

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            f64::INFINITY => f.write_str("+Inf"),
            f64::NEG_INFINITY => f.write_str("-Inf"),
            value => value.fmt(f),
        }
    }
}

/// Labels as they are written, without the braces.
fn label_text(metric: &Metric, labels: &[&str]) -> String {
    let mut out = String::new();
    push_labels(&mut out, metric, labels);
    out
}

fn push_labels(out: &mut String, metric: &Metric, labels: &[&str]) {
    assert_eq!(
        labels.len(),
        metric.labels.len(),
        "labels of `{}`",
        metric.name
    );
    for (name, value) in metric.labels.iter().zip(labels) {
        if !out.is_empty() {
            out.push(',');
        }
        out.push_str(name);
        out.push_str("=\"");
        push_escaped(out, value, true);
        out.push('"');
    }
}

fn push_escaped(out: &mut String, text: &str, quoted: bool) {
    if !text.contains(['\\', '\n', '"']) {
        out.push_str(text);
        return;
    }
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quoted => out.push_str("\\\""),
            _ => out.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TABLE: &[Metric] = &[
        Metric {
            name: "zebras",
            ty: MetricType::Gauge,
            help: "A \"gauge\"\nwith \\ in its help.",
            labels: &["model", "version"],
        },
        Metric {
            name: "ants_total",
            ty: MetricType::Counter,
            help: "Ants.",
            labels: &[],
        },
        Metric {
            name: "sizes",
            ty: MetricType::Histogram(&[0.000_05, 1.0]),
            help: "Sizes.",
            labels: &["model"],
        },
    ];

    #[test]
    fn the_text_is_as_the_format_says() {
        let registry = Registry::new(TABLE);
        registry.gauge("zebras", &["b", "x"]).set(f64::NAN);
        registry
            .gauge("zebras", &["a\\\"\n", "é"])
            .set(f64::NEG_INFINITY);
        registry.gauge("zebras", &["c", ""]).set(1.5e300);
        registry.histogram("sizes", &["m"]).add(0.5);
        registry.histogram("sizes", &["m"]).add(7.0);
        let large = format!("{}", 1.5e300);
        assert_eq!(
            registry.render(),
            format!(
                r#"# HELP ants_total Ants.
# TYPE ants_total counter
ants_total 0
# HELP sizes Sizes.
# TYPE sizes histogram
sizes_bucket{{model="m",le="0.00005"}} 0
sizes_bucket{{model="m",le="1"}} 1
sizes_bucket{{model="m",le="+Inf"}} 2
sizes_sum{{model="m"}} 7.5
sizes_count{{model="m"}} 2
# HELP zebras A "gauge"\nwith \\ in its help.
# TYPE zebras gauge
zebras{{model="a\\\"\n",version="é"}} -Inf
zebras{{model="b",version="x"}} NaN
zebras{{model="c",version=""}} {large}
"#
            )
        );
    }

    #[test]
    fn a_series_that_was_removed_starts_anew() {
        let registry = Registry::new(TABLE);
        let held = registry.gauge("zebras", &["a", "b"]);
        held.set(5.0);
        registry.remove("zebras", &["a", "b"]);
        held.set(6.0);
        assert!(!registry.render().contains("zebras"));
        assert_eq!(registry.gauge("zebras", &["a", "b"]).value(), 0.0);
    }

    /// The crate `prometheus` tells series apart by their labels run together.
    #[test]
    fn labels_that_run_together_alike_are_different_series() {
        let text = |model: &str, version: &str| label_text(&TABLE[0], &[model, version]);
        assert_ne!(text("resnet", "50v1"), text("resnet50", "v1"));
        assert_ne!(text("a\"", "b"), text("a\\\"", "b"));
    }

    proptest! {
        #[test]
        fn different_labels_are_different_series(a in r#"[a"\\,=\n]{0,4}"#, b in r#"[a"\\,=\n]{0,4}"#, c in r#"[a"\\,=\n]{0,4}"#, d in r#"[a"\\,=\n]{0,4}"#) {
            let text = |model: &str, version: &str| label_text(&TABLE[0], &[model, version]);
            prop_assert_eq!((&a, &b) == (&c, &d), text(&a, &b) == text(&c, &d));
            prop_assert!(!text(&a, &b).contains('\n'));
        }
    }
}

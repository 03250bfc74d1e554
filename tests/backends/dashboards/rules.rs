//! Rules, as Prometheus' own tool reads them.

use std::process::Command;

use perfwatch_tests::peer;

use crate::ROOT;

fn promtool(what: &[&str], file: &str) {
    let Some(program) = peer("promtool") else { return };
    let output = Command::new(program).args(what).arg(format!("{ROOT}/{file}")).output().expect("it runs");
    let text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&text));
}

#[test]
fn the_rules_are_valid() {
    promtool(&["check", "rules", "--lint-fatal"], "dashboards/prometheus/rules.yml");
}

#[test]
fn alerts_come_when_they_should_and_not_before() {
    promtool(&["test", "rules"], "dashboards/prometheus/rules.test.yml");
}

//! What `nvidia-smi --query-gpu` prints.

/// The columns that are asked for, in the order of [`Card`]'s fields.
pub(crate) const COLUMNS: &str =
    "uuid,name,memory.total,memory.used,power.draw,temperature.gpu,clocks.sm,clocks.mem,utilization.gpu";

/// One GPU, in `nvidia-smi`'s units: MiB, W, °C, MHz, percent. What it does not know is `None`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Card {
    pub(crate) uuid: String,
    pub(crate) name: String,
    pub(crate) memory_total: Option<f64>,
    pub(crate) memory_used: Option<f64>,
    pub(crate) power: Option<f64>,
    pub(crate) temperature: Option<f64>,
    pub(crate) sm_clock: Option<f64>,
    pub(crate) memory_clock: Option<f64>,
    pub(crate) utilization: Option<f64>,
}

/// The GPUs of `--format=csv,noheader,nounits`; the line that is none.
pub(crate) fn parse(csv: &str) -> Result<Vec<Card>, String> {
    let card = |line: &str| {
        let cells: Vec<_> = line.split(',').map(str::trim).collect();
        let [uuid, name, numbers @ ..] = cells.as_slice() else { return Err(line.to_owned()) };
        // `[N/A]` or `[Not Supported]`, by its age.
        let number = |cell: &&str| if cell.starts_with('[') { Ok(None) } else { cell.parse().map(Some) };
        let numbers: Vec<Option<f64>> =
            numbers.iter().map(number).collect::<Result<_, _>>().map_err(|_| line.to_owned())?;
        let &[memory_total, memory_used, power, temperature, sm_clock, memory_clock, utilization] = numbers.as_slice()
        else {
            return Err(line.to_owned());
        };
        let (uuid, name) = ((*uuid).to_owned(), (*name).to_owned());
        Ok(Card { uuid, name, memory_total, memory_used, power, temperature, sm_clock, memory_clock, utilization })
    };
    csv.lines().filter(|line| !line.trim().is_empty()).map(card).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_gpu_and_what_it_does_not_know_is_absent() {
        let cards = parse(
            "GPU-8f1f, NVIDIA H100 80GB HBM3, 81559, 1234, 69.93, 31, 345, 2619, 0\n\
             GPU-0a2b, NVIDIA GB10, [N/A], [Not Supported], 12.5, 40, 1980, [N/A], 100\n\n",
        );
        assert_eq!(COLUMNS.split(',').count(), 9);
        let [first, second] = cards.expect("both parse").try_into().expect("two");
        assert_eq!((first.uuid.as_str(), first.name.as_str()), ("GPU-8f1f", "NVIDIA H100 80GB HBM3"));
        assert_eq!((first.memory_total, first.power, first.utilization), (Some(81_559.0), Some(69.93), Some(0.0)));
        assert_eq!((second.memory_total, second.memory_used, second.memory_clock), (None, None, None));
        assert_eq!((second.sm_clock, second.temperature), (Some(1980.0), Some(40.0)));
    }

    #[test]
    fn a_line_that_is_none_is_handed_back() {
        for line in [
            "Failed to initialize NVML: Driver/library version mismatch",
            "GPU-1, x, 1, 2, 3, 4, 5, 6",
            "a, b, c, 1, 1, 1, 1, 1, 1",
        ] {
            assert_eq!(parse(line), Err(line.to_owned()));
        }
        assert_eq!(parse(""), Ok(Vec::new()));
    }
}

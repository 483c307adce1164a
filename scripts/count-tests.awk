# Reads the output of `ctest --verbose` and prints "passed failed skipped", in GoogleTest cases.
# A CTest entry that fails without a GoogleTest summary (crash, time-out) counts as one failure, and one
# that passes or is skipped without a summary (not a GoogleTest program) as one pass or skip.
match($0, /^ *[0-9]+: /) {
  test = substr($0, 1, RLENGTH); gsub(/[^0-9]/, "", test)
  line = substr($0, RLENGTH + 1)
  if (match(line, /^\[  (PASSED|SKIPPED|FAILED) *\] [0-9]+ tests?(\.|, listed below:)/)) {
    split(line, word, /[][ ]+/)   # "", "PASSED", "3", "tests."
    count[word[2]] += word[3]
    seen[test] = 1
    if (word[2] == "FAILED") sawFailure[test] = 1
  }
  next
}
match($0, /Test +#[0-9]+: /) {
  test = substr($0, RSTART, RLENGTH); gsub(/[^0-9]/, "", test)
  if ($0 ~ /(\*\*\*|Not Run)/ && $0 !~ /\*\*\*Skipped|\(Disabled\)/) { if (!(test in sawFailure)) count["FAILED"]++ }
  else if (!(test in seen)) count[$0 ~ /Skipped|Disabled/ ? "SKIPPED" : "PASSED"]++
}
END { printf "%d %d %d\n", count["PASSED"], count["FAILED"], count["SKIPPED"] }

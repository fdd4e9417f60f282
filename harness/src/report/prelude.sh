# What is in $answer: a field's text, the same as JSON has it, a header, a cookie, the last id of a stream.
literal() { printf '%s' "$answer" | grep -o "\"$1\" *: *\(\"[^\"]*\"\|[0-9]*\)" | head -n 1 | sed 's/^[^:]*: *//'; }
field() { literal "$1" | sed 's/"//g'; }
header() { printf '%s\n' "$answer" | tr -d '\r' | awk -v name="$1:" 'tolower(substr($0, 1, length(name))) == name { sub(/^[^:]*: */, ""); print; exit }'; }
cookie() { printf '%s\n' "$answer" | tr -d '\r' | sed -n "s/^[Ss]et-[Cc]ookie: *$1=\([^;]*\).*/\1/p" | tail -n 1; }
stream_id() { printf '%s\n' "$answer" | tr -d '\r' | sed -n 's/^id: *//p' | tail -n 1; }
# How many elements the array has that is a field of $answer, or $answer itself.
rows() {
  printf '%s\n' "$answer" | tr -d '\r' | awk -v name="$1" '
    body { text = text $0 "\n" }
    /^$/ { body = 1 }
    END {
      if (name == "") { start = index(text, "[") + 1 }
      else if (match(text, "\"" name "\"[ \t\n]*:[ \t\n]*\\[")) { start = RSTART + RLENGTH }
      else { print 0; exit }
      depth = 1
      for (i = start; i <= length(text) && depth > 0; i++) {
        c = substr(text, i, 1)
        if (quoted) { if (c == "\\") { i++ } else if (c == "\"") { quoted = 0 } ; continue }
        if (c == "\"") { quoted = 1; some = 1 }
        else if (c == "[" || c == "{") { depth++; some = 1 }
        else if (c == "]" || c == "}") { depth-- }
        else if (c == "," && depth == 1) { commas++ }
        else if (c !~ /[ \t\n]/) { some = 1 }
      }
      print some ? commas + 1 : 0
    }'
}
# A value as it stands in a URL, in JSON where nothing says whether it is a number, and with one change made.
escaped() { printf '%s' "$1" | sed 's/%/%25/g; s/+/%2B/g; s/&/%26/g; s/#/%23/g; s/=/%3D/g; s/ /%20/g'; }
json() { case $1 in '' | *[!0-9]*) printf '"%s"' "$1" ;; *) printf '%s' "$1" ;; esac; }
changed() {
  printf '%s\n' "$2" | awk -v how="$1" '{
    n = length($0); at = int(how == "late" ? n * 7 / 8 : n / 2) + 1
    if (how == "altered" || how == "late") { $0 = substr($0, 1, at - 1) (substr($0, at, 1) == "A" ? "B" : "A") substr($0, at + 1) }
    else if (how == "cut") { $0 = substr($0, 1, int(n * 2 / 3)) }
    else if (how == "last") { sub(/.*\//, "") }
    else if (how == "upper") { $0 = toupper($0) }
    else if (how == "bare") { gsub(/-/, "") }
    print
  }'
}
unanswered() { echo "no answer from $BASE_URL" >&2; exit 4; }

# shellcheck shell=bash
# Turns the variables of a script into its command line. To be sourced:
#
#   #!/usr/bin/env bash
#   # What the script does.               (the header comment: printed by --help)
#   set -eu
#   stage=0             # first stage     (becomes --stage N; the comment is printed by --help)
#   data_folder=data    # recordings      (becomes --data-folder DIR)
#   verbose=false       # tell more       (becomes --verbose true|false)
#   set=()              # settings        (becomes --set TEXT, which may be given again: each text is an item)
#   . tools/parse_options.sh
#
# An option is every lower-case variable that is assigned at the start of a line above the one that sources this file;
# other names (upper case, leading underscore) stay private. An integer default asks for an integer, true or false for
# one of the two, an empty array any texts, one each time, anything else any text. --flag value and --flag=value are the same; -- ends the options.
# Positional arguments are refused unless the script says OPTIONS_POSITIONAL=keep above; then they stay in "$@".
# Wrong usage ends the script with status 2 and one line on standard error.

_options_die() {
    echo "${0##*/}: $* (--help lists the options)" >&2
    exit 2
}

# "name<TAB>comment" of every option of script $1, in order.
_options_list() {
    awk '
        /^[ \t]*(\.|source)[ \t].*parse_options\.sh/ { exit }
        /^[a-z][a-z0-9_]*=/ {
            name = substr($0, 1, index($0, "=") - 1)
            comment = match($0, /[ \t]#[ \t]/) ? substr($0, RSTART + RLENGTH) : ""
            sub(/^[ \t]+/, "", comment)
            if (!seen[name]++) print name "\t" comment
        }' "$1"
}

_options_is_list() { case "$(declare -p "$1")" in "declare -a"*) ;; *) return 1 ;; esac; }

_options_help() {
    local name comment flag
    awk 'NR == 1 && /^#!/ { next } !/^#/ { exit } /^# shellcheck / { next } { sub(/^# ?/, ""); print }' "$1"
    echo
    echo "Options (with their defaults):"
    while IFS=$'\t' read -r name comment; do
        flag="--${name//_/-} ${!name:-\"\"}"
        if _options_is_list "$name"; then
            flag="--${name//_/-} TEXT ..."
            comment="$comment; give it again for more"
        fi
        printf '  %-34s %s\n' "$flag" "$comment"
    done <<<"$_options"
}

# The name among $2... with the smallest edit distance to $1.
_options_nearest() {
    awk -v wrong="$1" '
        function least(a, b) { return a < b ? a : b }
        function distance(a, b,   i, j, row, before, above) {
            for (j = 0; j <= length(b); j++) row[j] = j
            for (i = 1; i <= length(a); i++) {
                before = row[0]
                row[0] = i
                for (j = 1; j <= length(b); j++) {
                    above = row[j]
                    row[j] = least(least(row[j], row[j - 1]) + 1, before + (substr(a, i, 1) != substr(b, j, 1)))
                    before = above
                }
            }
            return row[length(b)]
        }
        { d = distance(wrong, $1); if (NR == 1 || d < best) { best = d; name = $1 } }
        END { gsub(/_/, "-", name); print name }' <<<"$_options"
}

# Assigns $2 to the variable $1 after comparing it with the kind of its default; to a list it is added.
_options_set() {
    local flag="--${1//_/-}"
    if _options_is_list "$1"; then
        eval "$1+=(\"\$2\")"
        return
    fi
    case "${!1}" in
        true | false)
            case "$2" in
                true | false) ;;
                *) _options_die "$flag: expected true or false, found '$2'" ;;
            esac
            ;;
        *[!0-9-]* | '' | *?-* | -) ;;
        *)
            case "$2" in
                '' | - | *[!0-9-]* | *?-*) _options_die "$flag: expected an integer, found '$2'" ;;
            esac
            ;;
    esac
    printf -v "$1" %s "$2"
}

_options="$(_options_list "${BASH_SOURCE[1]:-$0}")"
_options_kept=()
while [ $# -gt 0 ]; do
    case "$1" in
        -h | --help)
            _options_help "${BASH_SOURCE[1]:-$0}"
            exit 0
            ;;
        --)
            shift
            break
            ;;
        --*)
            _options_flag="${1%%=*}"
            _options_name="${_options_flag#--}"
            _options_name="${_options_name//-/_}"
            if ! cut -f 1 <<<"$_options" | grep -qxF -e "$_options_name"; then
                _options_die "unknown option $_options_flag; the nearest known one is" \
                    "--$(_options_nearest "$_options_name")"
            fi
            case "$1" in
                *=*) _options_set "$_options_name" "${1#*=}" ;;
                *)
                    case "${2---}" in
                        --*) _options_die "$_options_flag: expected a value, found ${2-nothing}" ;;
                    esac
                    _options_set "$_options_name" "$2"
                    shift
                    ;;
            esac
            shift
            ;;
        -?*) _options_die "unknown option $1; options begin with two dashes" ;;
        *)
            _options_kept+=("$1")
            shift
            ;;
    esac
done
set -- ${_options_kept[@]+"${_options_kept[@]}"} "$@"
if [ $# -gt 0 ] && [ "${OPTIONS_POSITIONAL:-refuse}" != keep ]; then
    case "$1" in
        *=*) _options_die "expected options only, found '$1'; several settings: --set 'a=1 b=2' or --set twice" ;;
        *) _options_die "expected options only, found '$1'" ;;
    esac
fi
unset _options _options_kept _options_flag _options_name

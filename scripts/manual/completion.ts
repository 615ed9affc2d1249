import { type CommandHelp, type Help, optionsOf } from './helps.ts';

/** What a shell may ask tombstonectl for, or know by itself. */
type Source = 'keys' | 'ids' | 'sweeps' | 'holds' | 'leases' | 'fences' | 'stores' | 'files' | 'directories';

const STATES = 'moving pending purging purged restoring restored abandoned';

/** The completion of both shells: what may come next, a line each. Its functions are bash and zsh alike. */
export function completionOf(shell: 'bash' | 'zsh', program: Help, commands: readonly CommandHelp[]): string {
  return `${shell === 'zsh' ? '#compdef tombstonectl\n' : ''}# ${shell} completion of tombstonectl; made from its help.\n${candidates(program, commands)}\n${shell === 'bash' ? BASH : ZSH}`;
}

function candidates(program: Help, commands: readonly CommandHelp[]): string {
  const globals = optionsOf(program, 'GLOBAL OPTIONS');
  const names = commands.flatMap(({ name, aliases }) => [name, ...aliases]);
  const optionArms = commands.map(({ name, aliases, help }) => {
    const own = optionsOf(help, 'OPTIONS').map((option) => option.name);
    return arm([name, ...aliases], `echo '${own.join('\n')}'`, own.length > 0);
  });
  const operandArms = commands.map(({ name, aliases, help }) => {
    const sources = operandsOf(name, (help.get('SYNOPSIS') ?? []).join('\n'));
    return arm([name, ...aliases], sources.join('; '), sources.length > 0);
  });
  const values = new Map<string, string>();
  for (const { name, help } of commands) {
    for (const { name: option, takes } of optionsOf(help, 'OPTIONS')) {
      if (takes !== null) values.set(`${name} ${option}`, valueOf(option, takes));
    }
  }
  const valueArms = [...values].filter(([, does]) => does !== '');
  const valued = [...globals, ...commands.flatMap(({ help }) => optionsOf(help, 'OPTIONS'))]
    .filter(({ takes }) => takes !== null)
    .map(({ name }) => name);
  const aliasArms = commands.flatMap(({ name, aliases }) =>
    aliases.map((alias) => `    ${alias}) echo ${name};;`),
  );
  return `
# What tombstonectl knows, in two seconds at the most, and not too much of it.
_tombstonectl_ask() {
  timeout "\${TOMBSTONED_COMPLETION_SECONDS:-2}" tombstonectl --json "$@" 2>/dev/null </dev/null | head -n 500
}

# The member of each object; what has quotes or control characters in it is left out.
_tombstonectl_member() {
  sed -n 's/^.*"'"$1"'":"\\([^"\\\\]*\\)".*$/\\1/p'
}

_tombstonectl_keys() { _tombstonectl_ask "\${globals[@]}" keys --no-lease --prefix "$cur" | _tombstonectl_member key; }
_tombstonectl_tombstoned() { _tombstonectl_ask "\${globals[@]}" ls --limit 500 --state pending --prefix "$cur" | _tombstonectl_member key; }
_tombstonectl_ids() { _tombstonectl_ask "\${globals[@]}" ls --limit 500 | _tombstonectl_member id; }
_tombstonectl_sweeps() { echo last; _tombstonectl_ask "\${globals[@]}" sweeps --limit 100 | _tombstonectl_member sweep; }
_tombstonectl_holds() { _tombstonectl_ask "\${globals[@]}" holds | _tombstonectl_member id; }
_tombstonectl_leases() { _tombstonectl_ask "\${globals[@]}" lease ls | _tombstonectl_member id; }
_tombstonectl_fences() { _tombstonectl_ask "\${globals[@]}" fence ls | _tombstonectl_member id; }
_tombstonectl_stores() { _tombstonectl_ask "\${globals[@]}" status | tr '{' '\\n' | sed -n 's/^"name":"\\([^"]*\\)".*/\\1/p'; }
_tombstonectl_commands() { echo '${names.join('\n')}'; }
_tombstonectl_globals() { echo '${globals.map(({ name }) => name).join('\n')}'; }

_tombstonectl_options() {
  case $1 in
${optionArms.join('')}  esac
}

# What an option of a command takes. @files and @directories are for the shell itself.
_tombstonectl_values() {
  case $2 in
    --config) echo @files; return;;
    --store) _tombstonectl_stores; return;;
    --url) return;;
  esac
  case "$1 $2" in
${valueArms.map(([name, does]) => `    '${name}') ${does};;\n`).join('')}  esac
}

_tombstonectl_operands() {
  case $1 in
${operandArms.join('')}  esac
}

_tombstonectl_command_of() {
  case $1 in
${aliasArms.join('\n')}
    *) echo "$1";;
  esac
}

# What may stand for $1, after the words that follow it.
_tombstonectl_candidates() {
  local cur=$1 word= before= command= literal= count=0
  local -a globals
  globals=()
  shift
  for word in "$@"; do
    if [ -n "$literal" ]; then
      count=$((count + 1))
    elif [ -n "$before" ]; then
      case $before in --config|--store|--url) globals+=("$before" "$word");; esac
      before=
    else
      case $word in
        --) literal=yes;;
        --config=*|--store=*|--url=*) globals+=("$word");;
        ${[...new Set(valued)].join('|')}) before=$word;;
        -*) ;;
        *)
          if [ -z "$command" ] && [ "$word" != help ]; then command=$(_tombstonectl_command_of "$word")
          else count=$((count + 1)); fi;;
      esac
    fi
  done
  if [ -n "$before" ]; then _tombstonectl_values "$command" "$before"
  elif [ -z "$command" ]; then
    case $cur in -*) _tombstonectl_globals; echo --version;; *) _tombstonectl_commands;; esac
  else
    case $literal$cur in
      -*) _tombstonectl_options "$command"; _tombstonectl_globals;;
      *) _tombstonectl_operands "$command" "$count";;
    esac
  fi
}
`;
}

function arm(names: readonly string[], does: string, isThere: boolean): string {
  return isThere ? `    ${names.join('|')}) ${does};;\n` : '';
}

const ASKED: Readonly<Record<Source, string>> = {
  keys: '_tombstonectl_keys',
  ids: '_tombstonectl_ids',
  sweeps: '_tombstonectl_sweeps',
  holds: '_tombstonectl_holds',
  leases: '_tombstonectl_leases',
  fences: '_tombstonectl_fences',
  stores: '_tombstonectl_stores',
  files: 'echo @files',
  directories: 'echo @directories',
};

/** What a command's operands are, by the words of its synopsis. */
function operandsOf(name: string, synopsis: string): string[] {
  const claims = { lease: ASKED.leases, fence: ASKED.fences }[name];
  if (claims !== undefined) return [`if [ "$2" -eq 0 ]; then echo 'ls\nbreak'; else ${claims}; fi`];
  if (name === 'aptos') return [`if [ "$2" -eq 0 ]; then echo 'status\nplan\nfetch\ncompact'; fi`];
  if (name === 'catalog') return [`if [ "$2" -eq 0 ]; then echo backup; else ${ASKED.files}; fi`];
  if (/ [A-Z]*HOLD\b/.test(synopsis)) return [ASKED.holds];
  if (name === 'sweeps' || name === 'approve' || name === 'reject') return [ASKED.sweeps];
  if (name === 'restore' || name === 'purge') return ['_tombstonectl_tombstoned', ASKED.ids];
  // An option's value is none of them.
  const operands = synopsis.replaceAll(/--[\w-]+ [A-Z]+/g, '');
  const isKey = /\b(?:KEY|PREFIX)\b/.test(operands);
  return [...(isKey ? [ASKED.keys] : []), ...(/\bID\b/.test(operands) ? [ASKED.ids] : [])];
}

/** What an option's value is, by what its help calls it. */
function valueOf(option: string, takes: string): string {
  if (option === '--sweep') return ASKED.sweeps;
  if (takes === 'STATE') return `echo '${STATES.replaceAll(' ', '\n')}'`;
  if (takes === 'DIR') return ASKED.directories;
  if (takes === 'F' || takes === 'FILE') return ASKED.files;
  if (takes === 'ID') return ASKED.ids;
  return option === '--prefix' || takes === 'KEY' ? ASKED.keys : '';
}

const BASH = `_tombstonectl() {
  local cur prev words cword line cur_word
  # Keys may have colons in them, and options their value after "=".
  if declare -F _get_comp_words_by_ref >/dev/null; then
    _get_comp_words_by_ref -n := cur words cword
  else
    cur=\${COMP_WORDS[COMP_CWORD]} words=("\${COMP_WORDS[@]}") cword=$COMP_CWORD
  fi
  COMPREPLY=()
  while IFS= read -r line; do
    case $line in
      @files) compopt -o filenames; while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -f -- "$cur");;
      @directories) compopt -o filenames; while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -d -- "$cur");;
      "$cur"*)
        printf -v cur_word %q "$line"
        COMPREPLY+=("$cur_word");;
    esac
  done < <(_tombstonectl_candidates "$cur" "\${words[@]:1:cword-1}")
  if declare -F __ltrim_colon_completions >/dev/null; then __ltrim_colon_completions "$cur"; fi
}
complete -F _tombstonectl tombstonectl
`;

const ZSH = `_tombstonectl() {
  local line
  local -a found
  for line in "\${(@f)$(_tombstonectl_candidates "\${words[CURRENT]}" "\${(@)words[2,CURRENT-1]}")}"; do
    case $line in
      '') ;;
      @files) _files;;
      @directories) _files -/;;
      *) found+=("$line");;
    esac
  done
  (( \${#found} == 0 )) || compadd -a found
}
_tombstonectl "$@"
`;

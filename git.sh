t() { echo "--- $*"; }
r() { agent-shim "$@" 2>&1 | cat -v; echo "rc ${PIPESTATUS[0]}"; }
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
E="--env GIT_AUTHOR_NAME --env GIT_AUTHOR_EMAIL --env GIT_COMMITTER_NAME --env GIT_COMMITTER_EMAIL"
B=$HOME/g; mkdir -p $B; cd $B; git init -q main; cd main; echo a>a; git add a; git commit -qm 1; git worktree add -q ../wt; git init -q ../subm; (cd ../subm; echo b>b; git add b; git commit -qm s); git -c protocol.file.allow=always submodule --quiet add ../subm sm; git commit -qm sub
t ro; r run --workspace . -- sh -c 'git status -s; git log --oneline | head -2; git commit --allow-empty -m x'
t git; r run --git $E --workspace . -- sh -c 'echo z>z; git add z; git commit -qm x; git log --oneline | head -1; cd sm && echo q>q && git add q && git commit -qm insub; git status -s'
t wt ro; cd ../wt;  r run --workspace . -- sh -c 'git status -s; git log --oneline | head -2'
t wt git; r run --git $E --workspace . -- sh -c 'echo z>zz; git add zz; git commit -qm x; git log --oneline | head -1; git checkout -qb newb && git branch; git stash list; git rebase main 2>&1 | tail -1'
t sub as ws; cd ../main/sm; r run --git $E --workspace . -- sh -c 'echo z>zz; git add zz; git commit -qm x; git log --oneline | head -1'
t subdir; mkdir -p ../dir; cd ../dir; r run --workspace . -- git status
t "ws with worktree inside"; cd ..; git worktree add -q inner; r run --git $E --workspace . -- sh -c 'cd inner; echo z>zz; git add zz; git commit -qm x; git log --oneline | head -1'
t "rebase/merge"; cd ..; git clone -q main cl 2>/dev/null; cd cl; r run --git $E --workspace . -- sh -c 'git checkout -qb f HEAD~1; git commit -q --allow-empty -m e; git rebase -q @{-1} && git log --oneline | head -1; git gc -q; git stash; git tag t; git fetch -q; git config x.y z'
t "symlinked .git"; mkdir ../sl; ln -s ../main/.git ../sl/.git; cd ../sl; r run --workspace . -- git log --oneline
r run --follow-links --workspace . -- git log --oneline
